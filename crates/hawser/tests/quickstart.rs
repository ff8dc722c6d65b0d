//! README's first command where there is no JVM: the whole story, with an embedded store as its source.

use std::process::{Command, Stdio};

#[test]
fn without_java_the_source_is_a_second_embedded_store() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hawser"))
        .args(["quickstart", "--once", "--dir"])
        .arg(folder.path().join("quickstart"))
        // Neither java nor mvn is there.
        .env("PATH", folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    for part in [
        "Java was not found: install JDK 17 or later",
        "an ordinary topic of a second embedded store",
        "Created mirror topic \"orders\".",
        "every byte is equal.",
        "{\"order\":0,",
        "Stopping everything that was started",
    ] {
        assert!(said.contains(part), "{part:?} lacks in\n{said}\n{errors}");
    }
}
