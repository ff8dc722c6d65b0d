//! Which names a topic may have (`Topic` in Kafka's clients).

/// `Topic.MAX_NAME_LENGTH`.
const LENGTH_MAX: usize = 249;

/// `Topic.validate`.
///
/// # Errors
/// Which rule `name` breaks, in Kafka's words.
pub fn check_topic_name(name: &str) -> Result<(), String> {
    let is_legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let reason = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." | ".." => format!("'{name}' is not allowed"),
        name if name.len() > LENGTH_MAX => {
            format!("the length of '{name}' is longer than the max allowed length {LENGTH_MAX}")
        }
        name if !name.bytes().all(is_legal) => {
            format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
        }
        _ => return Ok(()),
    };
    Err(format!("Topic name is invalid: {reason}"))
}

/// Whether two topics would share their metrics' names in Kafka (`Topic.hasCollision`), which lets only one of them be.
pub(super) fn collide(a: &str, b: &str) -> bool {
    let unified = |b: u8| if b == b'.' { b'_' } else { b };
    a.len() == b.len() && a.bytes().map(unified).eq(b.bytes().map(unified))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        for good in ["a", "A-1_b.c", "...", "__consumer_offsets", &"x".repeat(249)] {
            assert_eq!(check_topic_name(good), Ok(()), "{good}");
        }
        let table = [
            ("", "empty string"),
            (".", "'.' is not"),
            ("..", "'..' is not"),
            ("a b", "other than ASCII"),
            ("ä", "other than ASCII"),
            ("a/b", "other than ASCII"),
            (&"x".repeat(250), "longer than the max allowed length 249"),
        ];
        for (bad, reason) in table {
            let said = check_topic_name(bad).unwrap_err();
            assert!(said.starts_with("Topic name is invalid: ") && said.contains(reason), "{bad}: {said}");
        }
    }

    #[test]
    fn dots_and_underscores_collide() {
        for (a, b, expected) in [
            ("a.b", "a_b", true),
            ("a.b_c", "a_b.c", true),
            ("a-b", "a_b", false),
            ("a.b", "a.bc", false),
            ("a", "a", true),
        ] {
            assert_eq!(collide(a, b), expected, "{a} {b}");
        }
    }
}
