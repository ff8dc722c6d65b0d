//! Who may do what: super users, static grants and denials from the daemon's file, and the ACLs that the state keeps
//! (`kafka-acls`). Every API of this crate asks here, and so does the daemon before it opens a link or performs an
//! operation (ALTER on the cluster).
//!
//! The rules are `StandardAuthorizer`'s: a super user may do everything; a matching denial wins over every grant;
//! READ, WRITE, DELETE and ALTER grant DESCRIBE too, ALTER_CONFIGS grants DESCRIBE_CONFIGS; a resource that no entry
//! names is open to everyone only with `allow.everyone.if.no.acl.found`.

use crate::topics::check_topic_name;
use hawser_link::{ConfigError, ConfigErrors, Properties};
use hawser_state::{AclPermission, AclResourceType, EVERYONE, State};
use hawser_transport::Principal;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

pub use hawser_state::AclOperation as Operation;

/// What it is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A topic by name.
    Topic(&'a str),
    /// A consumer group by id.
    Group(&'a str),
    /// The cluster.
    Cluster,
    /// A producer's transactional id.
    TransactionalId(&'a str),
}

/// Decides. What stands in the file is immutable; stored ACLs count from the moment at which they are kept.
#[derive(Clone)]
pub struct Authorizer {
    super_users: BTreeSet<String>,
    allow_everyone_if_no_acl_found: bool,
    entries: Vec<Entry>,
    stored: Option<State>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    principal: String,
    is_denial: bool,
    operation: Operation,
    pattern: Pattern,
}

/// What the entries about a resource say to one question.
#[derive(Default)]
struct Verdict {
    is_denied: bool,
    is_granted: bool,
    /// Some entry is about the resource, whomever it names.
    is_any: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Cluster,
    Topic(Name),
    Group(Name),
    TransactionalId(Name),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Literal(String),
    /// `ord*`; `*` alone is the empty prefix.
    Prefix(String),
}

/// The name of the cluster as a resource (`Resource.CLUSTER_NAME`).
pub(crate) const CLUSTER_NAME: &str = "kafka-cluster";
const EXPECTED: &str = "expected `User:name [DENY] OPERATION resource`, where the resource is `cluster`, `topic:NAME`, \
                        `group:NAME` or `transactional-id:NAME`, and a `*` at the end of NAME makes it a prefix";

impl Authorizer {
    /// Everyone may do everything: for tests and for a daemon that its operator opened on purpose.
    pub fn open_to_all() -> Self {
        Self { super_users: BTreeSet::new(), allow_everyone_if_no_acl_found: true, entries: Vec::new(), stored: None }
    }

    /// Reads `super.users` (`User:a;User:b`), `allow.everyone.if.no.acl.found` (default `false`) and `hawser.acls`:
    /// entries separated by `;`, each `User:name [DENY] OPERATION resource`. `User:*` is everyone.
    ///
    /// # Errors
    /// All errors at once.
    pub fn from_properties(properties: &Properties) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut authorizer = Self { allow_everyone_if_no_acl_found: false, ..Self::open_to_all() };
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

    /// Goes by the ACLs in `state` too.
    #[must_use]
    pub fn with_stored(self, state: State) -> Self {
        Self { stored: Some(state), ..self }
    }

    /// Whether `principal` may do `operation` to `resource`.
    pub fn authorize(&self, principal: &Principal, operation: Operation, resource: Resource<'_>) -> bool {
        self.allows(principal.as_str(), principal.host(), operation, resource)
    }

    /// The operations that `principal` may do to `resource`, as the bit field of KIP-430.
    pub(crate) fn allowed_bits(&self, principal: &Principal, resource: Resource<'_>) -> i32 {
        let bits = operations_on(resource).iter().filter(|operation| self.authorize(principal, **operation, resource));
        bits.fold(0, |bits, operation| bits | 1 << operation.code())
    }

    fn allows(&self, principal: &str, host: IpAddr, operation: Operation, resource: Resource<'_>) -> bool {
        if self.super_users.contains(principal) {
            return true;
        }
        let mut verdict = Verdict::default();
        for entry in self.entries.iter().filter(|entry| entry.pattern.matches(resource)) {
            verdict.is_any = true;
            if entry.principal == principal || entry.principal == EVERYONE {
                verdict.count(entry.is_denial, entry.operation, operation);
            }
        }
        if let Some(state) = &self.stored {
            let (resource_type, name) = named(resource);
            verdict.is_any |= state.acls_about(resource_type, name, principal, |acl| {
                if is_host(&acl.host, host) {
                    verdict.count(acl.permission == AclPermission::Deny, acl.operation, operation);
                }
            });
        }
        !verdict.is_denied && (verdict.is_granted || (self.allow_everyone_if_no_acl_found && !verdict.is_any))
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl Verdict {
    /// Counts what an entry for the asking principal says. A denial denies what it names only.
    fn count(&mut self, is_denial: bool, about: Operation, asked: Operation) {
        if is_denial {
            self.is_denied |= about == Operation::All || about == asked;
        } else {
            self.is_granted |= implies(about, asked);
        }
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
        if let Some(word) = astray(&rest) {
            return Err(format!(
                "`{word}` cannot be part of a principal: separate entries by `;`, and name one principal, \
                                one operation and one resource in each (no ALLOW)"
            ));
        }
        let operation = operation_named(operation).ok_or_else(|| format!("`{operation}` is not an operation"))?;
        Ok(Self { principal, is_denial, operation, pattern: Pattern::parse(resource)? })
    }
}

/// What in the words of a principal belongs to another entry, or to this one elsewhere. As part of a distinguished name it
/// would be an entry for nobody, and a denial would vanish without a word.
fn astray<'a>(principal: &[&'a str]) -> Option<&'a str> {
    let second = principal.iter().flat_map(|word| word.split(',')).skip(1).find(|part| is_principal(part));
    let is_verdict = |word: &str| ["ALLOW", "DENY"].iter().any(|verdict| word.eq_ignore_ascii_case(verdict));
    let begins_with_resource = |word: &str| word.split(',').next().is_some_and(|part| Pattern::parse(part).is_ok());
    let is_astray = |(index, word): &(usize, &&str)| {
        let next = principal.get(index + 1);
        is_verdict(word) || (operation_named(word).is_some() && next.is_none_or(|next| begins_with_resource(next)))
    };
    second.or_else(|| principal.iter().enumerate().find(is_astray).map(|(_, word)| *word))
}

fn operation_named(word: &str) -> Option<Operation> {
    Operation::ALL.iter().copied().find(|known| known.as_str().eq_ignore_ascii_case(word))
}

impl Pattern {
    fn parse(resource: &str) -> Result<Self, String> {
        let (kind, name) = resource.split_once(':').unwrap_or((resource, ""));
        let name = match name.strip_suffix('*') {
            Some(prefix) => Name::Prefix(prefix.to_owned()),
            None => Name::Literal(name.to_owned()),
        };
        // Ids of groups and transactions may hold any character.
        if resource.split(',').skip(1).any(|part| is_principal(part) || Self::parse(part).is_ok()) {
            return Err(format!("`{resource}` is more than one resource: separate entries by `;`"));
        }
        let is_unnamed = name == Name::Literal(String::new());
        match (kind.to_ascii_lowercase().as_str(), is_unnamed) {
            ("cluster", true) => Ok(Self::Cluster),
            ("topic", false) => {
                name.check_topic()?;
                Ok(Self::Topic(name))
            }
            ("group", false) => Ok(Self::Group(name)),
            ("transactional-id", false) => Ok(Self::TransactionalId(name)),
            _ => Err(format!("`{resource}` is not a resource")),
        }
    }

    fn matches(&self, resource: Resource<'_>) -> bool {
        match (self, resource) {
            (Self::Cluster, Resource::Cluster) => true,
            (Self::Topic(name), Resource::Topic(topic)) => name.matches(topic),
            (Self::Group(name), Resource::Group(group)) => name.matches(group),
            (Self::TransactionalId(name), Resource::TransactionalId(id)) => name.matches(id),
            (Self::Cluster | Self::Topic(_) | Self::Group(_) | Self::TransactionalId(_), _) => false,
        }
    }
}

impl Name {
    /// # Errors
    /// No topic can have this name, or one that begins so.
    fn check_topic(&self) -> Result<(), String> {
        match self {
            Self::Prefix(prefix) if matches!(prefix.as_str(), "" | "." | "..") => Ok(()),
            Self::Literal(name) | Self::Prefix(name) => check_topic_name(name),
        }
    }

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
        || granted == Operation::All
        || matches!((granted, asked), (Read | Write | Delete | Alter, Describe) | (AlterConfigs, DescribeConfigs))
}

/// Under which type and name ACLs speak of `resource`.
fn named(resource: Resource<'_>) -> (AclResourceType, &str) {
    match resource {
        Resource::Topic(name) => (AclResourceType::Topic, name),
        Resource::Group(id) => (AclResourceType::Group, id),
        Resource::Cluster => (AclResourceType::Cluster, CLUSTER_NAME),
        Resource::TransactionalId(id) => (AclResourceType::TransactionalId, id),
    }
}

/// Whether an ACL for `named` (an address, or `*`) is for whoever connects from `host`.
fn is_host(named: &str, host: IpAddr) -> bool {
    named == "*" || named.parse::<IpAddr>().is_ok_and(|named| named.to_canonical() == host)
}

/// `AclEntry.supportedOperations`.
fn operations_on(resource: Resource<'_>) -> &'static [Operation] {
    use Operation::{
        Alter, AlterConfigs, ClusterAction, Create, Delete, Describe, DescribeConfigs, IdempotentWrite, Read,
        TwoPhaseCommit, Write,
    };
    match resource {
        Resource::Topic(_) => &[Read, Write, Create, Describe, Delete, Alter, DescribeConfigs, AlterConfigs],
        Resource::Group(_) => &[Read, Describe, Delete, DescribeConfigs, AlterConfigs],
        Resource::Cluster => &[Create, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite, Alter, Describe],
        Resource::TransactionalId(_) => &[Describe, Write, TwoPhaseCommit],
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

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));

    impl Authorizer {
        fn allows_here(&self, principal: &str, operation: Operation, resource: Resource<'_>) -> bool {
            self.allows(principal, HERE, operation, resource)
        }
    }

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
                authorizer.allows_here(principal, operation, resource),
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
            assert_eq!(closed.allows_here("User:b", Operation::Read, resource), closed_answer);
            assert_eq!(open.allows_here("User:b", Operation::Read, resource), open_answer);
        }
        assert!(Authorizer::open_to_all().allows_here("User:ANONYMOUS", Operation::Alter, Resource::Cluster));
        assert!(!authorizer("").allows_here("User:ANONYMOUS", Operation::Read, Resource::Topic("t")));
    }

    /// `StandardAuthorizerTest`: denials win, `*` and prefixes, hosts, implied operations, beside the file's entries.
    #[test]
    fn stored_acls_decide_beside_those_of_the_file() {
        use Operation::{All, Alter, Create, Describe, Read, Write};
        use hawser_state::{AclPatternType, AclRecord};
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state")).unwrap();
        let acl = |text: &str| {
            let words: Vec<&str> = text.split(' ').collect();
            let [principal, permission, operation, kind, pattern_type, name, host] = words[..] else {
                panic!("{text}")
            };
            fn find<T: Copy>(all: &[T], name: &str, text: impl Fn(T) -> &'static str) -> T {
                all.iter().copied().find(|known| text(*known) == name).unwrap()
            }
            AclRecord {
                resource_type: find(AclResourceType::ALL, kind, AclResourceType::as_str),
                pattern_type: find(AclPatternType::ALL, pattern_type, AclPatternType::as_str),
                resource_name: name.into(),
                principal: principal.into(),
                host: host.into(),
                operation: find(Operation::ALL, operation, Operation::as_str),
                permission: find(AclPermission::ALL, permission, AclPermission::as_str),
            }
        };
        let acls = [
            "User:ann ALLOW READ TOPIC LITERAL orders *",
            "User:ann ALLOW ALL GROUP PREFIXED app- 10.1.2.3",
            "User:ann ALLOW WRITE TOPIC LITERAL far 10.9.9.9",
            "User:bob ALLOW ALL TOPIC LITERAL * *",
            "User:bob DENY WRITE TOPIC PREFIXED ord *",
            "User:bob DENY READ TOPIC LITERAL far 10.9.9.9",
            "User:* ALLOW DESCRIBE CLUSTER LITERAL kafka-cluster *",
            "User:* DENY ALL TOPIC LITERAL secret *",
            "User:root DENY ALL TOPIC LITERAL * *",
        ];
        state.change_acls(&acls.map(acl), &[]).unwrap();
        let file = "super.users=User:root\nhawser.acls=User:ann ALTER cluster;User:carl DENY ALL topic:orders\n";
        let authorizer = authorizer(file).with_stored(state.clone());
        let table = [
            ("User:ann", Read, Resource::Topic("orders"), true),
            ("User:ann", Describe, Resource::Topic("orders"), true),
            ("User:ann", Write, Resource::Topic("orders"), false),
            ("User:ann", Read, Resource::Topic("orders2"), false),
            ("User:ann", Read, Resource::Group("app-1"), true),
            ("User:ann", Read, Resource::Group("app"), false),
            ("User:ann", Write, Resource::Topic("far"), false),
            ("User:ann", Alter, Resource::Cluster, true),
            ("User:bob", Create, Resource::Topic("any"), true),
            ("User:bob", Read, Resource::Topic("orders"), true),
            ("User:bob", Write, Resource::Topic("orders"), false),
            ("User:bob", Read, Resource::Topic("far"), true),
            ("User:bob", Read, Resource::Topic("secret"), false),
            ("User:bob", Read, Resource::Group("app-1"), false),
            ("User:eve", Describe, Resource::Cluster, true),
            ("User:eve", Alter, Resource::Cluster, false),
            ("User:eve", Read, Resource::Topic("free"), false),
            ("User:root", Write, Resource::Topic("secret"), true),
            ("User:carl", All, Resource::Topic("orders"), false),
        ];
        for (principal, operation, resource, expected) in table {
            let decided = authorizer.allows_here(principal, operation, resource);
            assert_eq!(decided, expected, "{principal} {operation:?} {resource:?}");
        }
        // A removal counts at once.
        state.change_acls(&[], &[acl(acls[0])]).unwrap();
        assert!(!authorizer.allows_here("User:ann", Read, Resource::Topic("orders")));
    }

    #[test]
    fn entries_that_run_together_are_refused() {
        let refusal = |entry: &str| {
            let text = format!("hawser.acls={entry}\n");
            Authorizer::from_properties(&Properties::parse("f", &text)).map_err(|errors| errors.to_string()).err()
        };
        for (entry, named) in [
            ("User:link ALTER cluster,User:link READ topic:*", "`User:link` cannot"),
            ("User:link ALTER cluster, User:link READ topic:*", "`User:link` cannot"),
            ("User:link ALTER cluster User:b READ topic:t", "`User:b` cannot"),
            ("User:link ALTER cluster, READ topic:*", "`ALTER` cannot"),
            ("User:m READ topic:a,b WRITE topic:t", "`READ` cannot"),
            ("User:m DENY READ topic:a,User:b READ group:g", "`User:b` cannot"),
            ("User:m deny READ topic:a READ group:g", "`deny` cannot"),
            ("User:m DENY READ WRITE topic:t", "`DENY` cannot"),
            ("User:m READ WRITE topic:t", "`READ` cannot"),
            ("User:a ALLOW READ topic:t", "(no ALLOW)"),
            ("User:a,User:b DENY READ topic:t", "`User:b` cannot"),
            ("User:a READ topic:t,u", "'t,u' contains one or more characters other than ASCII"),
            ("User:a READ topic:t*u", "'t*u' contains"),
            ("User:a READ topic:t,*", "'t,' contains"),
            ("User:a READ topic:..", "'..' is not allowed"),
            ("User:a DENY READ group:g,topic:t", "more than one resource"),
            ("User:a DENY READ group:g,User:b", "more than one resource"),
        ] {
            let told = refusal(entry).unwrap_or_else(|| panic!("taken: {entry}"));
            for part in ["f:1: hawser.acls: ", &format!("`{entry}`"), named] {
                assert!(told.contains(part), "{part} in {told}");
            }
        }
        for entry in [
            "User:CN=Read Only,OU=All Describe Users,O=x y DENY READ topic:t",
            "User:CN=a,O=b, c ALL topic:..*",
            "User:a READ group:a,b",
            "User:a READ transactional-id:t*,x",
        ] {
            assert_eq!(refusal(entry), None, "{entry}");
        }
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
