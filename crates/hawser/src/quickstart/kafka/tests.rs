use super::*;

#[test]
fn javas_name_their_version_in_two_ways() {
    assert_eq!(java_major("openjdk version \"17.0.15\" 2025-04-15\n"), Some(17));
    assert_eq!(java_major("openjdk version \"21\" 2023-09-19\n"), Some(21));
    assert_eq!(java_major("java version \"1.8.0_402\"\n"), Some(8));
    assert_eq!(java_major("openjdk version \"25-ea\" 2025-09-16\n"), Some(25));
    assert_eq!(java_major("command not found"), None);
}

#[test]
fn the_pom_pins_the_same_release() {
    assert!(POM.contains(&format!("<kafka.version>{VERSION}</kafka.version>")));
}
