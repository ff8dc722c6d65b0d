//! Name filters as operators write them: `{"topicFilters":[{"name":…,"patternType":…,"filterType":…}]}`, and the
//! same shape for groups. EXCLUDE wins over INCLUDE; what no filter names is not included.

mod acl;

pub use acl::{AclFilter, AclFilters};

use serde::Deserialize;
use std::fmt;

/// Most filters in one list.
const FILTERS_MAX: usize = 10_000;

/// Which topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFilters(NameFilters);

/// Which consumer groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFilters(NameFilters);

/// Why a text is no filter list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(String);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct NameFilters {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    All,
    Literal(String),
    Prefixed(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawTopics {
    topic_filters: Vec<RawFilter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawGroups {
    group_filters: Vec<RawFilter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawFilter {
    name: String,
    pattern_type: RawPattern,
    filter_type: RawKind,
    /// Of groups on bidirectional links; taken and kept for later.
    #[serde(default, rename = "topicTypes")]
    _topic_types: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum RawPattern {
    #[serde(alias = "literal")]
    Literal,
    #[serde(alias = "prefixed")]
    Prefixed,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum RawKind {
    #[serde(alias = "include")]
    Include,
    #[serde(alias = "exclude")]
    Exclude,
}

impl TopicFilters {
    /// Reads `{"topicFilters":[…]}`; an empty text includes nothing.
    ///
    /// # Errors
    /// [`FilterError`], with line and column of the JSON.
    pub fn parse(json: &str) -> Result<Self, FilterError> {
        if json.trim().is_empty() {
            return Ok(Self::default());
        }
        let raw: RawTopics = serde_json::from_str(json).map_err(|e| shape(&e, "topicFilters"))?;
        NameFilters::new(raw.topic_filters).map(Self)
    }

    /// Whether `topic` passes.
    pub fn includes(&self, topic: &str) -> bool {
        self.0.includes(topic)
    }

    /// Whether nothing can pass.
    pub fn is_empty(&self) -> bool {
        self.0.include.is_empty()
    }
}

impl GroupFilters {
    /// Reads `{"groupFilters":[…]}`; an empty text includes nothing.
    ///
    /// # Errors
    /// [`FilterError`], with line and column of the JSON.
    pub fn parse(json: &str) -> Result<Self, FilterError> {
        if json.trim().is_empty() {
            return Ok(Self::default());
        }
        let raw: RawGroups = serde_json::from_str(json).map_err(|e| shape(&e, "groupFilters"))?;
        NameFilters::new(raw.group_filters).map(Self)
    }

    /// Whether `group` passes.
    pub fn includes(&self, group: &str) -> bool {
        self.0.includes(group)
    }

    /// Whether nothing can pass.
    pub fn is_empty(&self) -> bool {
        self.0.include.is_empty()
    }
}

impl NameFilters {
    fn new(raw: Vec<RawFilter>) -> Result<Self, FilterError> {
        if raw.len() > FILTERS_MAX {
            return Err(FilterError(format!("{} filters, at most {FILTERS_MAX} are taken", raw.len())));
        }
        let mut filters = Self::default();
        for filter in raw {
            let pattern = match filter.pattern_type {
                _ if filter.name.is_empty() => return Err(FilterError("a filter has an empty name".to_owned())),
                RawPattern::Literal if filter.name == "*" => Pattern::All,
                RawPattern::Literal => Pattern::Literal(filter.name),
                RawPattern::Prefixed if filter.name == "*" => {
                    let hint = "\"*\" means all names with patternType LITERAL only";
                    return Err(FilterError(hint.to_owned()));
                }
                RawPattern::Prefixed => Pattern::Prefixed(filter.name),
            };
            match filter.filter_type {
                RawKind::Include => filters.include.push(pattern),
                RawKind::Exclude => filters.exclude.push(pattern),
            }
        }
        Ok(filters)
    }

    fn includes(&self, name: &str) -> bool {
        let matches = |pattern: &Pattern| match pattern {
            Pattern::All => true,
            Pattern::Literal(literal) => literal == name,
            Pattern::Prefixed(prefix) => name.starts_with(prefix.as_str()),
        };
        self.include.iter().any(matches) && !self.exclude.iter().any(matches)
    }
}

fn shape(error: &serde_json::Error, list: &str) -> FilterError {
    FilterError(format!(
        "{error}; expected {{\"{list}\":[{{\"name\":\"orders.\",\"patternType\":\"LITERAL|PREFIXED\",\
         \"filterType\":\"INCLUDE|EXCLUDE\"}}]}}"
    ))
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Literal(name) => f.write_str(name),
            Self::Prefixed(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl fmt::Display for TopicFilters {
    /// For logs: `orders.*, -orders.secret`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let include = self.0.include.iter().map(ToString::to_string);
        let exclude = self.0.exclude.iter().map(|p| format!("-{p}"));
        f.write_str(&include.chain(exclude).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCENARIO_B6: &str = r#"{ "topicFilters": [ {"name": "mirror_me", "patternType": "PREFIXED", "filterType": "INCLUDE"},
        {"name": "no_mirror", "patternType": "PREFIXED", "filterType": "EXCLUDE"} ] }"#;

    #[test]
    fn includes_by_table() {
        let all = r#"{"topicFilters":[{"name":"*","patternType":"LITERAL","filterType":"INCLUDE"},
            {"name":"tmp.","patternType":"prefixed","filterType":"exclude"}]}"#;
        let one = r#"{"topicFilters":[{"name":"a","patternType":"literal","filterType":"include"}]}"#;
        for (json, topic, expected) in [
            ("", "a", false),
            (SCENARIO_B6, "mirror_me", true),
            (SCENARIO_B6, "mirror_me_too", true),
            (SCENARIO_B6, "no_mirror", false),
            (SCENARIO_B6, "other", false),
            (all, "orders", true),
            (all, "tmp.x", false),
            (all, "tmp", true),
            (one, "a", true),
            (one, "ab", false),
            (r#"{"topicFilters":[]}"#, "a", false),
        ] {
            assert_eq!(TopicFilters::parse(json).expect(json).includes(topic), expected, "{json} {topic}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (json, says) in [
            ("{", "topicFilters"),
            (r#"{"groupFilters":[]}"#, "topicFilters"),
            (r#"{"topicFilters":[{"name":"a","patternType":"REGEX","filterType":"INCLUDE"}]}"#, "REGEX"),
            (r#"{"topicFilters":[{"name":"a","patternType":"LITERAL"}]}"#, "filterType"),
            (r#"{"topicFilters":[{"name":"","patternType":"LITERAL","filterType":"INCLUDE"}]}"#, "empty name"),
            (r#"{"topicFilters":[{"name":"*","patternType":"PREFIXED","filterType":"INCLUDE"}]}"#, "LITERAL only"),
        ] {
            let error = TopicFilters::parse(json).expect_err(json).to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn groups() {
        let json = r#"{"groupFilters":[{"name":"*","patternType":"LITERAL","filterType":"INCLUDE","topicTypes":["LOCAL_MIRROR"]}]}"#;
        assert!(GroupFilters::parse(json).unwrap().includes("g"));
        assert!(GroupFilters::parse("{}").is_err());
    }
}
