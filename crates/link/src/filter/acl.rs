//! ACL filters as operators write them:
//! `{"aclFilters":[{"resourceFilter":{"resourceType":"any","patternType":"any"},"accessFilter":{"operation":"any","permissionType":"any"}}]}`,
//! read into the codes of Kafka's `DescribeAcls`.

use super::{FILTERS_MAX, FilterError};
use serde::Deserialize;

/// Which ACLs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclFilters(Vec<AclFilter>);

/// One filter, in Kafka's codes (`ResourceType`, `PatternType`, `AclOperation`, `AclPermissionType`; 1 is ANY in each).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclFilter {
    /// Of the resource.
    pub resource_type: i8,
    /// Exactly this name; `None`: any.
    pub resource_name: Option<String>,
    /// How the resource's name is written.
    pub pattern_type: i8,
    /// Exactly this principal; `None`: any.
    pub principal: Option<String>,
    /// Exactly this host; `None`: any.
    pub host: Option<String>,
    /// What is allowed or denied.
    pub operation: i8,
    /// Allowed or denied.
    pub permission: i8,
}

const RESOURCE_TYPES: &[(&str, i8)] = &[
    ("ANY", 1),
    ("TOPIC", 2),
    ("GROUP", 3),
    ("CLUSTER", 4),
    ("TRANSACTIONAL_ID", 5),
    ("DELEGATION_TOKEN", 6),
    ("USER", 7),
];
const PATTERN_TYPES: &[(&str, i8)] = &[("ANY", 1), ("MATCH", 2), ("LITERAL", 3), ("PREFIXED", 4)];
const OPERATIONS: &[(&str, i8)] = &[
    ("ANY", 1),
    ("ALL", 2),
    ("READ", 3),
    ("WRITE", 4),
    ("CREATE", 5),
    ("DELETE", 6),
    ("ALTER", 7),
    ("DESCRIBE", 8),
    ("CLUSTER_ACTION", 9),
    ("DESCRIBE_CONFIGS", 10),
    ("ALTER_CONFIGS", 11),
    ("IDEMPOTENT_WRITE", 12),
    ("CREATE_TOKENS", 13),
    ("DESCRIBE_TOKENS", 14),
    ("TWO_PHASE_COMMIT", 15),
];
const PERMISSIONS: &[(&str, i8)] = &[("ANY", 1), ("DENY", 2), ("ALLOW", 3)];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawFilters {
    acl_filters: Vec<RawFilter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawFilter {
    resource_filter: RawResource,
    access_filter: RawAccess,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawResource {
    resource_type: String,
    #[serde(default = "any")]
    pattern_type: String,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawAccess {
    #[serde(default = "any")]
    operation: String,
    #[serde(default = "any")]
    permission_type: String,
    principal: Option<String>,
    host: Option<String>,
}

impl AclFilters {
    /// Reads `{"aclFilters":[…]}`; an empty text matches nothing. Words are read in either case, with `-` or `_`.
    ///
    /// # Errors
    /// [`FilterError`], with line and column of the JSON, or the word that is none of Kafka's.
    pub fn parse(json: &str) -> Result<Self, FilterError> {
        if json.trim().is_empty() {
            return Ok(Self::default());
        }
        let raw: RawFilters = serde_json::from_str(json).map_err(|error| {
            FilterError(format!(
                "{error}; expected {{\"aclFilters\":[{{\"resourceFilter\":{{\"resourceType\":\"any\",\"patternType\":\"any\"}},\
                 \"accessFilter\":{{\"operation\":\"any\",\"permissionType\":\"any\"}}}}]}}"
            ))
        })?;
        if raw.acl_filters.len() > FILTERS_MAX {
            return Err(FilterError(format!("{} filters, at most {FILTERS_MAX} are taken", raw.acl_filters.len())));
        }
        raw.acl_filters.into_iter().map(AclFilter::new).collect::<Result<_, _>>().map(Self)
    }

    /// Each of them; an ACL passes that matches one.
    pub fn iter(&self) -> impl Iterator<Item = &AclFilter> {
        self.0.iter()
    }

    /// Whether nothing can pass.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl AclFilter {
    fn new(raw: RawFilter) -> Result<Self, FilterError> {
        let RawFilter { resource_filter: resource, access_filter: access } = raw;
        Ok(Self {
            resource_type: code("resourceType", RESOURCE_TYPES, &resource.resource_type)?,
            resource_name: resource.name,
            pattern_type: code("patternType", PATTERN_TYPES, &resource.pattern_type)?,
            principal: access.principal,
            host: access.host,
            operation: code("operation", OPERATIONS, &access.operation)?,
            permission: code("permissionType", PERMISSIONS, &access.permission_type)?,
        })
    }
}

fn any() -> String {
    "ANY".to_owned()
}

fn code(field: &str, words: &[(&str, i8)], word: &str) -> Result<i8, FilterError> {
    let wanted = word.to_ascii_uppercase().replace('-', "_");
    words.iter().find(|(known, _)| *known == wanted).map(|(_, code)| *code).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(known, _)| *known).collect();
        FilterError(format!("{field} \"{word}\" is none of {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_reference_shows() {
        let all = r#"{"aclFilters":[{"resourceFilter":{"resourceType":"any","patternType":"any"},
            "accessFilter":{"operation":"any","permissionType":"any"}}]}"#;
        let filters = AclFilters::parse(all).unwrap();
        let any = AclFilter {
            resource_type: 1,
            resource_name: None,
            pattern_type: 1,
            principal: None,
            host: None,
            operation: 1,
            permission: 1,
        };
        assert_eq!(filters.iter().collect::<Vec<_>>(), [&any]);
        let one = r#"{"aclFilters":[{"resourceFilter":{"resourceType":"transactional-id","name":"t","patternType":"PREFIXED"},
            "accessFilter":{"operation":"Idempotent_Write","permissionType":"ALLOW","principal":"User:ann","host":"*"}}]}"#;
        let filters = AclFilters::parse(one).unwrap();
        let one = filters.iter().next().unwrap();
        assert_eq!((one.resource_type, one.pattern_type, one.operation, one.permission), (5, 4, 12, 3));
        assert_eq!((one.resource_name.as_deref(), one.principal.as_deref()), (Some("t"), Some("User:ann")));
        assert!(AclFilters::parse("").unwrap().is_empty());
    }

    #[test]
    fn says_what_is_wrong() {
        for (json, says) in [
            ("{", "aclFilters"),
            (r#"{"aclFilters":[{"resourceFilter":{"resourceType":"any"}}]}"#, "accessFilter"),
            (
                r#"{"aclFilters":[{"resourceFilter":{"resourceType":"queue"},"accessFilter":{}}]}"#,
                "\"queue\" is none of ANY",
            ),
            (
                r#"{"aclFilters":[{"resourceFilter":{"resourceType":"any"},"accessFilter":{"permissionType":"maybe"}}]}"#,
                "permissionType",
            ),
        ] {
            let error = AclFilters::parse(json).expect_err(json).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
