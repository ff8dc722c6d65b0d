//! What stands on a command line becomes settings, and no message repeats it.

use super::*;

#[test]
fn config_pairs_keep_lists_and_json_whole() {
    let got = pairs(r#"a=1, b=[x,y],c={"f":[{"n":"p,q"}]},d="#).unwrap();
    let expected = [("a", "1"), ("b", "x,y"), ("c", r#"{"f":[{"n":"p,q"}]}"#), ("d", "")];
    assert_eq!(got, expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
    assert!(pairs("nonsense").is_err());
    assert!(!inline_or_file("hunter2").unwrap_err().to_string().contains("hunter2"));
}

#[test]
fn a_secret_need_not_stand_on_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "from the file\n").unwrap();
    let flag = format!("@{}", file.display());
    let environment = || Some("from the environment".to_owned());
    assert_eq!(api_secret("source", Some("plain"), environment()).unwrap(), "plain");
    assert_eq!(api_secret("source", Some(&flag), environment()).unwrap(), "from the file");
    assert_eq!(api_secret("source", None, environment()).unwrap(), "from the environment");
    assert!(
        api_secret("source", None, None)
            .unwrap_err()
            .to_string()
            .contains("--source-api-secret @FILE, or HAWSER_SOURCE_API_SECRET")
    );
    std::fs::write(&file, "\n").unwrap();
    assert!(api_secret("source", Some(&flag), environment()).is_err());
}
