//! One JAAS line, as Kafka's `JaasConfig` reads it: `module.Class required name="value" other='value';`

use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// A parsed line. No `Debug`: its options hold secrets.
pub(crate) struct Jaas {
    /// The login module's class name.
    pub(crate) module: String,
    /// Its options.
    pub(crate) options: BTreeMap<String, Zeroizing<String>>,
}

/// Class name of PLAIN's login module.
pub(crate) const PLAIN_MODULE: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
/// Class name of SCRAM's login module.
pub(crate) const SCRAM_MODULE: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";

enum Token {
    /// A bare or a quoted word; whether it was quoted.
    Word(Zeroizing<String>, bool),
    Equals,
    Semicolon,
}

impl Jaas {
    /// Reads exactly one login module.
    ///
    /// # Errors
    /// What is wrong; never a value, as values are secret.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = tokens(text)?.into_iter().peekable();
        let Some(Token::Word(module, false)) = tokens.next() else {
            return Err(format!("does not begin with a login module's class name; expected {}", example()));
        };
        match tokens.next() {
            Some(Token::Word(flag, false))
                if ["required", "requisite", "sufficient", "optional"]
                    .contains(&flag.to_ascii_lowercase().as_str()) => {}
            // Whatever stands before it may be a password without its module.
            _ => return Err(format!("'required' is missing after the module's class name; expected {}", example())),
        }
        let mut options = BTreeMap::new();
        loop {
            match (tokens.next(), tokens.peek()) {
                (Some(Token::Semicolon), None) => {
                    return Ok(Self { module: module.to_string(), options });
                }
                (Some(Token::Semicolon), Some(_)) => {
                    return Err("holds more than one login module, or text after the ';'; expected one".to_owned());
                }
                (Some(Token::Word(name, false)), Some(Token::Equals)) => {
                    tokens.next();
                    let Some(Token::Word(value, _)) = tokens.next() else {
                        return Err(format!("option '{}' has no value; expected {0}=\"…\"", *name));
                    };
                    options.insert(name.to_string(), value);
                }
                (None, _) => return Err("does not end with ';'".to_owned()),
                // Whatever stands here may be part of a badly quoted password.
                _ => {
                    let after = options.keys().next_back().map_or("the flag".to_owned(), |k| format!("option '{k}'"));
                    return Err(format!("expected NAME=\"VALUE\" or ';' near {after}"));
                }
            }
        }
    }

    /// Option `name`.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(|v| v.as_str())
    }

    /// `user_NAME="secret"` options: names and secrets.
    pub(crate) fn users(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().filter_map(|(k, v)| Some((k.strip_prefix("user_")?, v.as_str())))
    }
}

fn example() -> String {
    format!("{PLAIN_MODULE} required username=\"NAME\" password=\"SECRET\";")
}

/// `java.io.StreamTokenizer` as `JaasConfig` sets it up: either quote, C escapes in quotes, both kinds of comment.
fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() || c.is_control() => {}
            '=' => tokens.push(Token::Equals),
            ';' => tokens.push(Token::Semicolon),
            '"' | '\'' => tokens.push(Token::Word(quoted(&mut chars, c)?, true)),
            '/' if chars.peek() == Some(&'/') => {
                chars.by_ref().find(|c| *c == '\n');
            }
            '/' if chars.peek() == Some(&'*') => {
                chars.next();
                let mut last = ' ';
                chars.by_ref().find(|c| std::mem::replace(&mut last, *c) == '*' && *c == '/');
            }
            c => {
                let mut word = Zeroizing::new(String::from(c));
                while let Some(c) = chars.next_if(|c| !c.is_whitespace() && !matches!(c, '=' | ';' | '"' | '\'')) {
                    word.push(c);
                }
                tokens.push(Token::Word(word, false));
            }
        }
    }
    Ok(tokens)
}

fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, quote: char) -> Result<Zeroizing<String>, String> {
    let mut word = Zeroizing::new(String::new());
    loop {
        match chars.next() {
            Some(c) if c == quote => return Ok(word),
            Some('\n') | None => return Err(format!("a value's closing {quote} is missing")),
            Some('\\') => word.push(match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some('b') => '\x08',
                Some('a') => '\x07',
                Some('v') => '\x0b',
                Some(c @ '0'..='7') => {
                    let mut code = c.to_digit(8).unwrap_or(0);
                    // Three digits only if the first is 0 to 3: a byte, as in C.
                    for _ in 0..if c <= '3' { 2 } else { 1 } {
                        let Some(d) = chars.next_if(|c| c.is_digit(8)) else { break };
                        code = code * 8 + d.to_digit(8).unwrap_or(0);
                    }
                    char::from_u32(code).unwrap_or('\u{fffd}')
                }
                Some(c) => c,
                None => return Err(format!("a value's closing {quote} is missing")),
            }),
            Some(c) => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<(String, Vec<(String, String)>), String> {
        let jaas = Jaas::parse(text)?;
        Ok((jaas.module, jaas.options.into_iter().map(|(k, v)| (k, v.to_string())).collect()))
    }

    #[test]
    fn reads_what_kafka_reads() {
        for (text, options) in [
            ("m.P required username=\"u\" password='p';", vec![("password", "p"), ("username", "u")]),
            ("m.P required username=u password=p ;", vec![("password", "p"), ("username", "u")]),
            ("  m.P\n\trequired\n username = \"a b\" ;\n", vec![("username", "a b")]),
            (r#"m.P REQUIRED password="a\"b\\c\'d\tz\101";"#, vec![("password", "a\"b\\c'd\tzA")]),
            (r#"m.P required password='a"b=c;d';"#, vec![("password", "a\"b=c;d")]),
            ("m.P required /* note */ user_a=\"1\" // rest\n user_b='2';", vec![("user_a", "1"), ("user_b", "2")]),
            ("m.P required;", vec![]),
            ("m.P required password=\"\";", vec![("password", "")]),
            ("m.P required a-b.c_d=\"http://x/y?z\";", vec![("a-b.c_d", "http://x/y?z")]),
        ] {
            let expected = options.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            assert_eq!(read(text), Ok(("m.P".to_owned(), expected)), "{text}");
        }
    }

    #[test]
    fn names_what_is_wrong_and_no_secret() {
        for (text, part) in [
            ("", "class name"),
            ("'m.P' required;", "class name"),
            ("m.P username=\"hush\";", "'required' is missing"),
            ("m.P required username=\"hush\"", "does not end with ';'"),
            ("m.P required username=\"hush;", "closing \" is missing"),
            ("m.P required username;", "expected NAME"),
            ("m.P required username=;", "has no value"),
            ("m.P required password=\"hush\"hush;", "near option 'password'"),
            ("m.P required; m.Q required;", "more than one login module"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part) && !error.contains("hush"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn takes_any_text(text in ".{0,200}") {
            let _ = Jaas::parse(&text);
        }

        #[test]
        fn any_secret_survives_quoting(secret in "[^\n\r]{0,40}") {
            let line = format!("m.P required password=\"{}\";", secret.replace('\\', "\\\\").replace('"', "\\\""));
            prop_assert_eq!(read(&line), Ok(("m.P".to_owned(), vec![("password".to_owned(), secret)])));
        }
    }
}
