//! Who may do what: super users, static grants and denials from the daemon's file. Every API of this crate asks here,
//! and so does the daemon before it opens a link or performs an operation (ALTER on the cluster).
//!
//! The rules are `StandardAuthorizer`'s: a super user may do everything; a matching denial wins over every grant;
//! READ, WRITE, DELETE and ALTER grant DESCRIBE too, ALTER_CONFIGS grants DESCRIBE_CONFIGS; a resource that no entry
//! names is open to everyone only with `allow.everyone.if.no.acl.found`.

use hawser_link::{ConfigError, ConfigErrors, Properties};
use hawser_transport::Principal;
use std::collections::BTreeSet;

/// What somebody wants to do (`AclOperation`); the numbers are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Consume, commit, join.
    Read = 3,
    /// Produce.
    Write = 4,
    /// Create topics.
    Create = 5,
    /// Delete topics, groups.
    Delete = 6,
    /// Change topics; on the cluster: links and mirrors.
    Alter = 7,
    /// See that it exists.
    Describe = 8,
    /// What brokers do among each other.
    ClusterAction = 9,
    /// See configs.
    DescribeConfigs = 10,
    /// Change configs.
    AlterConfigs = 11,
    /// Produce with idempotence.
    IdempotentWrite = 12,
}

/// What it is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A topic by name.
    Topic(&'a str),
    /// A consumer group by id.
    Group(&'a str),
    /// The cluster.
    Cluster,
}

/// Decides; immutable, so that a decision takes no lock.
#[derive(Clone, Debug)]
pub struct Authorizer {
    super_users: BTreeSet<String>,
    allow_everyone_if_no_acl_found: bool,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    principal: String,
    is_denial: bool,
    /// `None` is ALL.
    operation: Option<Operation>,
    pattern: Pattern,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Cluster,
    Topic(Name),
    Group(Name),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Literal(String),
    /// `ord*`; `*` alone is the empty prefix.
    Prefix(String),
}

const OPERATIONS: [(&str, Operation); 10] = [
    ("READ", Operation::Read),
    ("WRITE", Operation::Write),
    ("CREATE", Operation::Create),
    ("DELETE", Operation::Delete),
    ("ALTER", Operation::Alter),
    ("DESCRIBE", Operation::Describe),
    ("CLUSTER_ACTION", Operation::ClusterAction),
    ("DESCRIBE_CONFIGS", Operation::DescribeConfigs),
    ("ALTER_CONFIGS", Operation::AlterConfigs),
    ("IDEMPOTENT_WRITE", Operation::IdempotentWrite),
];
const EXPECTED: &str = "expected `User:name [DENY] OPERATION resource`, where the resource is `cluster`, `topic:NAME` \
                        or `group:NAME`, and a `*` at the end of NAME makes it a prefix";

impl Authorizer {
    /// Everyone may do everything: for tests and for a daemon that its operator opened on purpose.
    pub fn open_to_all() -> Self {
        Self { super_users: BTreeSet::new(), allow_everyone_if_no_acl_found: true, entries: Vec::new() }
    }

    /// Reads `super.users` (`User:a;User:b`), `allow.everyone.if.no.acl.found` (default `false`) and `hawser.acls`:
    /// entries separated by `;`, each `User:name [DENY] OPERATION resource`. `User:*` is everyone.
    ///
    /// # Errors
    /// All errors at once.
    pub fn from_properties(properties: &Properties) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut authorizer =
            Self { super_users: BTreeSet::new(), allow_everyone_if_no_acl_found: false, entries: Vec::new() };
        for user in items(properties.value("super.users")) {
            if is_principal(user) {
                authorizer.super_users.insert(user.to_owned());
            } else {
                errors.push(properties.error("super.users", format!("`{user}`: expected `User:name`")));
            }
        }
        match properties.value("allow.everyone.if.no.acl.found").map(str::trim) {
            None | Some("false") => {}
            Some("true") => authorizer.allow_everyone_if_no_acl_found = true,
            Some(other) => errors.push(
                properties.error("allow.everyone.if.no.acl.found", format!("`{other}`: expected `true` or `false`")),
            ),
        }
        for item in items(properties.value("hawser.acls")) {
            match Entry::parse(item) {
                Ok(entry) => authorizer.entries.push(entry),
                Err(reason) => errors.push(acl_error(properties, item, &reason)),
            }
        }
        ConfigErrors(errors).into_result()?;
        Ok(authorizer)
    }

    /// Whether `principal` may do `operation` to `resource`.
    pub fn authorize(&self, principal: &Principal, operation: Operation, resource: Resource<'_>) -> bool {
        self.allows(principal.as_str(), operation, resource)
    }

    /// The operations that `principal` may do to `resource`, as the bit field of KIP-430.
    pub(crate) fn allowed_bits(&self, principal: &Principal, resource: Resource<'_>) -> i32 {
        let bits = operations_on(resource).iter().filter(|operation| self.authorize(principal, **operation, resource));
        bits.fold(0, |bits, operation| bits | 1 << *operation as i32)
    }

    fn allows(&self, principal: &str, operation: Operation, resource: Resource<'_>) -> bool {
        if self.super_users.contains(principal) {
            return true;
        }
        let about = || self.entries.iter().filter(|entry| entry.pattern.matches(resource));
        let mine = || about().filter(|entry| entry.principal == principal || entry.principal == "User:*");
        if mine().any(|entry| entry.is_denial && entry.operation.is_none_or(|denied| denied == operation)) {
            return false;
        }
        if mine().any(|entry| !entry.is_denial && entry.operation.is_none_or(|granted| implies(granted, operation))) {
            return true;
        }
        self.allow_everyone_if_no_acl_found && about().next().is_none()
    }
}

impl Entry {
    fn parse(item: &str) -> Result<Self, String> {
        let mut words = item.split_whitespace().rev();
        let (Some(resource), Some(operation)) = (words.next(), words.next()) else {
            return Err("too few words".into());
        };
        let mut rest: Vec<&str> = words.collect();
        let is_denial = rest.first().is_some_and(|word| word.eq_ignore_ascii_case("DENY"));
        if is_denial {
            rest.remove(0);
        }
        rest.reverse();
        // A distinguished name may hold blanks.
        let principal = rest.join(" ");
        if !is_principal(&principal) {
            return Err(format!("`{principal}` is not a principal"));
        }
        let operation = match operation.to_ascii_uppercase().as_str() {
            "ALL" => None,
            name => match OPERATIONS.iter().find(|(known, _)| *known == name) {
                Some((_, operation)) => Some(*operation),
                None => return Err(format!("`{operation}` is not an operation")),
            },
        };
        Ok(Self { principal, is_denial, operation, pattern: Pattern::parse(resource)? })
    }
}

impl Pattern {
    fn parse(resource: &str) -> Result<Self, String> {
        let (kind, name) = resource.split_once(':').unwrap_or((resource, ""));
        let name = match name.strip_suffix('*') {
            Some(prefix) => Name::Prefix(prefix.to_owned()),
            None => Name::Literal(name.to_owned()),
        };
        let is_unnamed = name == Name::Literal(String::new());
        match (kind.to_ascii_lowercase().as_str(), is_unnamed) {
            ("cluster", true) => Ok(Self::Cluster),
            ("topic", false) => Ok(Self::Topic(name)),
            ("group", false) => Ok(Self::Group(name)),
            _ => Err(format!("`{resource}` is not a resource")),
        }
    }

    fn matches(&self, resource: Resource<'_>) -> bool {
        match (self, resource) {
            (Self::Cluster, Resource::Cluster) => true,
            (Self::Topic(name), Resource::Topic(topic)) => name.matches(topic),
            (Self::Group(name), Resource::Group(group)) => name.matches(group),
            (Self::Cluster | Self::Topic(_) | Self::Group(_), _) => false,
        }
    }
}

impl Name {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == name,
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }
}

fn implies(granted: Operation, asked: Operation) -> bool {
    use Operation::{Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
    granted == asked
        || matches!((granted, asked), (Read | Write | Delete | Alter, Describe) | (AlterConfigs, DescribeConfigs))
}

/// `AclEntry.supportedOperations`.
fn operations_on(resource: Resource<'_>) -> &'static [Operation] {
    use Operation::{
        Alter, AlterConfigs, ClusterAction, Create, Delete, Describe, DescribeConfigs, IdempotentWrite, Read, Write,
    };
    match resource {
        Resource::Topic(_) => &[Read, Write, Create, Describe, Delete, Alter, DescribeConfigs, AlterConfigs],
        Resource::Group(_) => &[Read, Describe, Delete, DescribeConfigs, AlterConfigs],
        Resource::Cluster => &[Create, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite, Alter, Describe],
    }
}

fn is_principal(text: &str) -> bool {
    text.strip_prefix("User:").is_some_and(|name| !name.is_empty())
}

fn items(value: Option<&str>) -> impl Iterator<Item = &str> {
    value.unwrap_or_default().split(';').map(str::trim).filter(|item| !item.is_empty())
}

fn acl_error(properties: &Properties, item: &str, reason: &str) -> ConfigError {
    properties.error("hawser.acls", format!("`{item}`: {reason}; {EXPECTED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorizer(text: &str) -> Authorizer {
        Authorizer::from_properties(&Properties::parse("test", text)).unwrap()
    }

    #[test]
    fn decides_as_standard_authorizer_does() {
        use Operation::{Alter, AlterConfigs, Describe, DescribeConfigs, Read, Write};
        let entries = "super.users=User:root; User:CN=boss,O=x y\n\
            hawser.acls=User:link ALTER cluster; User:alice read topic:ord*; User:bob ALL group:*;\\\n\
              User:* DESCRIBE topic:open; User:mallory DENY READ topic:orders; User:mallory ALL topic:*;\\\n\
              User:CN=a b,O=c ALTER_CONFIGS topic:t\n";
        let authorizer = authorizer(entries);
        let (orders, open) = (Resource::Topic("orders"), Resource::Topic("open"));
        let table = [
            ("User:root", Alter, Resource::Cluster, true),
            ("User:CN=boss,O=x y", Read, orders, true),
            ("User:link", Alter, Resource::Cluster, true),
            ("User:link", Describe, Resource::Cluster, true),
            ("User:link", Read, orders, false),
            ("User:alice", Read, orders, true),
            ("User:alice", Describe, orders, true),
            ("User:alice", Write, orders, false),
            ("User:alice", Read, Resource::Topic("or"), false),
            ("User:alice", Read, Resource::Group("orders"), false),
            ("User:bob", Read, Resource::Group("any"), true),
            ("User:anyone", Describe, open, true),
            ("User:anyone", Read, open, false),
            ("User:mallory", Read, orders, false),
            ("User:mallory", Write, orders, true),
            ("User:mallory", Read, Resource::Topic("other"), true),
            ("User:CN=a b,O=c", DescribeConfigs, Resource::Topic("t"), true),
            ("User:CN=a b,O=c", AlterConfigs, Resource::Topic("t"), true),
            ("User:alicia", Read, orders, false),
            ("alice", Read, orders, false),
        ];
        for (principal, operation, resource, expected) in table {
            assert_eq!(
                authorizer.allows(principal, operation, resource),
                expected,
                "{principal} {operation:?} {resource:?}"
            );
        }
    }

    #[test]
    fn a_resource_without_entries_is_open_only_when_the_file_says_so() {
        let text = "hawser.acls=User:a READ topic:t\n";
        let closed = authorizer(text);
        let open = authorizer(&format!("{text}allow.everyone.if.no.acl.found=true\n"));
        for (name, closed_answer, open_answer) in [("t", false, false), ("u", false, true)] {
            let resource = Resource::Topic(name);
            assert_eq!(closed.allows("User:b", Operation::Read, resource), closed_answer);
            assert_eq!(open.allows("User:b", Operation::Read, resource), open_answer);
        }
        assert!(Authorizer::open_to_all().allows("User:ANONYMOUS", Operation::Alter, Resource::Cluster));
        assert!(!authorizer("").allows("User:ANONYMOUS", Operation::Read, Resource::Topic("t")));
    }

    #[test]
    fn tells_every_error_at_once() {
        let text = "super.users=root;User:ok\nallow.everyone.if.no.acl.found=yes\n\
                    hawser.acls=User:a; User:a EAT topic:t; User:a READ tropic:t; User:a READ topic:; a READ topic:t;\\\n\
                    User:a READ cluster:x; User:a READ topic:fine\n";
        let errors = Authorizer::from_properties(&Properties::parse("f", text)).unwrap_err();
        let shown = errors.to_string();
        assert_eq!(errors.0.len(), 8, "{shown}");
        for part in
            ["f:1: super.users: `root`", "f:2: allow", "f:3: hawser.acls: `User:a EAT topic:t`: `EAT`", "`tropic:t`"]
        {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }
}
