//! As `java.util.Properties.load` reads, case by case.

use super::*;

#[test]
fn by_table() {
    for (text, expected) in [
        ("", vec![]),
        ("a=b", vec![("a", "b")]),
        ("a = b", vec![("a", "b")]),
        ("a:b", vec![("a", "b")]),
        ("a b", vec![("a", "b")]),
        ("a\tb", vec![("a", "b")]),
        ("a = = b", vec![("a", "= b")]),
        ("a : = b", vec![("a", "= b")]),
        ("a", vec![("a", "")]),
        ("a=", vec![("a", "")]),
        ("=b", vec![("", "b")]),
        ("  a=b", vec![("a", "b")]),
        ("a=b  ", vec![("a", "b  ")]),
        ("#c\n!d\n  #e\na=b", vec![("a", "b")]),
        ("a=b#c", vec![("a", "b#c")]),
        ("a=1\na=2", vec![("a", "2")]),
        ("a=b\r\nc=d\r\n", vec![("a", "b"), ("c", "d")]),
        ("a=b\rc=d", vec![("a", "b"), ("c", "d")]),
        ("a=b\\\n   c", vec![("a", "bc")]),
        ("a=b\\\r\n   c", vec![("a", "bc")]),
        ("a=b\\\\\nc=d", vec![("a", "b\\"), ("c", "d")]),
        ("a=b\\", vec![("a", "b")]),
        ("a=b\\\n", vec![("a", "b")]),
        ("a=b \\\n\n c=d", vec![("a", "b "), ("c", "d")]),
        ("a=b\\\n#c", vec![("a", "b#c")]),
        ("a\\ b=c", vec![("a b", "c")]),
        ("a\\=b=c", vec![("a=b", "c")]),
        ("a\\:b:c", vec![("a:b", "c")]),
        ("a=\\t\\n\\r\\f\\\\", vec![("a", "\t\n\r\x0c\\")]),
        ("a=\\u0041\\u00e4", vec![("a", "Aä")]),
        ("a=\\uD83D\\uDE00", vec![("a", "😀")]),
        ("a=\\q\\\"", vec![("a", "q\"")]),
        ("a=ä😀", vec![("a", "ä😀")]),
        ("schlüssel=wert", vec![("schlüssel", "wert")]),
    ] {
        let properties = Properties::parse("f", text);
        assert_eq!(properties.iter().collect::<Vec<_>>(), expected, "{text:?}");
    }
}

#[test]
fn a_jaas_line_over_three_lines_as_in_scenario_a() {
    let text = "sasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule \
                required \\\n  username=\"admin\" \\\n  password=\"admin-secret\";\nz=1\n";
    let properties = Properties::parse("CP-command.config", text);
    assert_eq!(
        properties.value("sasl.jaas.config"),
        Some(
            "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"admin\" \
             password=\"admin-secret\";"
        )
    );
    assert_eq!((properties.line("sasl.jaas.config"), properties.line("z"), properties.line("none")), (2, 5, 0));
    assert!(!format!("{properties:?}").contains("admin-secret"));
}

#[test]
fn prefixes_keep_their_lines() {
    let properties = Properties::parse("f", "x=1\nlocal.a=2\nlocal.b=3\nlocalc=4");
    let local = properties.with_prefix("local.");
    assert_eq!(local.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3")]);
    assert_eq!(local.error("b", "is wrong").to_string(), "f:3: b: is wrong");
    assert_eq!(local.error("c", "is missing").to_string(), "f: c: is missing");
}

#[test]
fn malformed_escapes_are_taken_as_they_are() {
    // Java throws; a configuration should rather be read than refused for a path like C:\users.
    for (text, expected) in
        [("a=\\u12", "u12"), ("a=\\uzzzz", "uzzzz"), ("a=\\ud83d", "\u{fffd}"), ("a=\\u+123", "u+123")]
    {
        assert_eq!(Properties::parse("f", text).value("a"), Some(expected), "{text}");
    }
}
