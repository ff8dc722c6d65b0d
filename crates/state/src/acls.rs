//! ACLs as plain data (Kafka's `AclBinding`), the filters that name them, and the index in which a decision finds those
//! that matter: by resource type, pattern and principal, so that it costs the same among ten thousand as among ten.

use crate::disk::{ACLS, Failure};
use crate::{Error, State};
use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// ACLs that are kept at most: 200 bytes each in memory, and a listing of all fits a response.
pub const ACLS_MAX: usize = 100_000;
/// The name that stands for every resource of a type (`ResourcePattern.WILDCARD_RESOURCE`).
pub const WILDCARD: &str = "*";
/// The principal that stands for everyone (`StandardAuthorizerData.WILDCARD_PRINCIPAL`).
pub const EVERYONE: &str = "User:*";

/// An enum whose numbers and names are Kafka's.
macro_rules! kafka_enum {
    ($(#[$about:meta])* $name:ident { $($variant:ident = $code:literal $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        #[repr(i8)]
        #[allow(missing_docs)]
        pub enum $name { $($variant = $code,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As in Kafka's messages; `None` for ANY, UNKNOWN and numbers that nobody has given yet.
            pub fn of_code(code: i8) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.code() == code)
            }

            /// As in Kafka's messages.
            pub fn code(self) -> i8 {
                self as i8
            }

            /// As in Kafka's tools.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

kafka_enum! {
    /// What an ACL is about (`ResourceType`).
    AclResourceType {
        Topic = 2 "TOPIC",
        Group = 3 "GROUP",
        Cluster = 4 "CLUSTER",
        TransactionalId = 5 "TRANSACTIONAL_ID",
        DelegationToken = 6 "DELEGATION_TOKEN",
        User = 7 "USER",
    }
}

kafka_enum! {
    /// How an ACL names resources (`PatternType`).
    AclPatternType {
        Literal = 3 "LITERAL",
        Prefixed = 4 "PREFIXED",
    }
}

kafka_enum! {
    /// What somebody wants to do (`AclOperation`).
    AclOperation {
        All = 2 "ALL",
        Read = 3 "READ",
        Write = 4 "WRITE",
        Create = 5 "CREATE",
        Delete = 6 "DELETE",
        Alter = 7 "ALTER",
        Describe = 8 "DESCRIBE",
        ClusterAction = 9 "CLUSTER_ACTION",
        DescribeConfigs = 10 "DESCRIBE_CONFIGS",
        AlterConfigs = 11 "ALTER_CONFIGS",
        IdempotentWrite = 12 "IDEMPOTENT_WRITE",
        CreateTokens = 13 "CREATE_TOKENS",
        DescribeTokens = 14 "DESCRIBE_TOKENS",
        TwoPhaseCommit = 15 "TWO_PHASE_COMMIT",
    }
}

kafka_enum! {
    /// Whether an ACL grants or denies (`AclPermissionType`).
    AclPermission {
        Deny = 2 "DENY",
        Allow = 3 "ALLOW",
    }
}

/// One ACL: whom it lets, or forbids, to do what, to which resources, from where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AclRecord {
    /// Type of the resources.
    pub resource_type: AclResourceType,
    /// What `resource_name` is.
    pub pattern_type: AclPatternType,
    /// A name, a prefix, or [`WILDCARD`]; not empty.
    pub resource_name: String,
    /// `User:name`, or [`EVERYONE`].
    pub principal: String,
    /// An IP address, or `*`.
    pub host: String,
    /// The operation; `All` is every one.
    pub operation: AclOperation,
    /// Grant or denial.
    pub permission: AclPermission,
}

/// How a filter goes by patterns (`PatternType` in a filter).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PatternFilter {
    /// Every pattern of the name.
    #[default]
    Any,
    /// Every pattern that matches a resource of the name.
    Match,
    /// Patterns of this type and of the name.
    Exactly(AclPatternType),
}

/// Which ACLs are meant (`AclBindingFilter`); `None` is any. `Default` means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclFilter {
    /// Type of the resources.
    pub resource_type: Option<AclResourceType>,
    /// How `resource_name` is meant.
    pub pattern: PatternFilter,
    /// Name of the resource or of the pattern.
    pub resource_name: Option<String>,
    /// Exactly this principal: [`EVERYONE`] is a name as any other here.
    pub principal: Option<String>,
    /// Exactly this host.
    pub host: Option<String>,
    /// Exactly this operation.
    pub operation: Option<AclOperation>,
    /// Grants or denials only.
    pub permission: Option<AclPermission>,
}

impl AclFilter {
    /// Whether `acl` is meant.
    pub fn matches(&self, acl: &AclRecord) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, found: &T) -> bool {
            wanted.is_none_or(|wanted| wanted == found)
        }
        is(self.resource_type.as_ref(), &acl.resource_type)
            && self.matches_pattern(acl)
            && is(self.principal.as_ref(), &acl.principal)
            && is(self.host.as_ref(), &acl.host)
            && is(self.operation.as_ref(), &acl.operation)
            && is(self.permission.as_ref(), &acl.permission)
    }

    /// `ResourcePatternFilter.matches`.
    fn matches_pattern(&self, acl: &AclRecord) -> bool {
        if let PatternFilter::Exactly(wanted) = self.pattern
            && wanted != acl.pattern_type
        {
            return false;
        }
        let Some(name) = &self.resource_name else { return true };
        match (self.pattern, acl.pattern_type) {
            (PatternFilter::Any | PatternFilter::Exactly(_), _) => *name == acl.resource_name,
            (PatternFilter::Match, AclPatternType::Literal) => {
                *name == acl.resource_name || acl.resource_name == WILDCARD
            }
            (PatternFilter::Match, AclPatternType::Prefixed) => name.starts_with(&acl.resource_name),
        }
    }
}

/// What a change of ACLs came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclsChanged {
    /// Those that were not there before.
    pub added: Vec<AclRecord>,
    /// Those that were there.
    pub removed: Vec<AclRecord>,
}

impl State {
    /// The ACLs that `filter` means, in order.
    pub fn acls(&self, filter: &AclFilter) -> Vec<AclRecord> {
        self.cache().acls.all.iter().filter(|acl| filter.matches(acl)).map(|acl| AclRecord::clone(acl)).collect()
    }

    /// Shows `look` every ACL about this resource that names `principal` or everyone; whether there is any ACL about the
    /// resource at all. `look` must be quick: it holds up changes.
    pub fn acls_about(
        &self,
        resource_type: AclResourceType,
        name: &str,
        principal: &str,
        look: impl FnMut(&AclRecord),
    ) -> bool {
        self.cache().acls.about(resource_type, name, principal, look)
    }

    /// Adds and removes ACLs, all or nothing; what is there already, or not there, is left as it is. An ACL that is in
    /// both lists is there afterwards. Blocks on fsync if there is anything to do.
    ///
    /// # Errors
    /// When the write failed, or there would be more than [`ACLS_MAX`]; nothing changed then.
    pub fn change_acls(&self, add: &[AclRecord], remove: &[AclRecord]) -> Result<AclsChanged, Error> {
        let _changing = self.changing();
        let adding: BTreeSet<&AclRecord> = add.iter().collect();
        let (changed, left) = {
            let acls = &self.cache().acls.all;
            let removing: BTreeSet<&AclRecord> = remove.iter().collect();
            let removed = removing.into_iter().filter(|acl| acls.contains(*acl) && !adding.contains(acl));
            let added = adding.iter().filter(|acl| !acls.contains(**acl));
            let changed =
                AclsChanged { added: added.map(|acl| (**acl).clone()).collect(), removed: removed.cloned().collect() };
            (changed, acls.len())
        };
        if changed == AclsChanged::default() {
            return Ok(changed);
        }
        if left + changed.added.len() - changed.removed.len() > ACLS_MAX {
            return Err(self.inner.disk.refused(&format!("no room for more than {ACLS_MAX} ACLs: remove some")));
        }
        self.inner.disk.write(|t| {
            changed.removed.iter().try_for_each(|acl| remove_row(t, acl))?;
            changed.added.iter().try_for_each(|acl| add_row(t, acl))
        })?;
        let cache = &mut *self.cache_mut();
        cache.version += 1;
        changed.removed.iter().for_each(|acl| cache.acls.remove(acl));
        changed.added.iter().for_each(|acl| cache.acls.add(acl.clone()));
        Ok(changed)
    }
}

/// All ACLs, with the index over them.
#[derive(Default)]
pub(crate) struct Acls {
    all: BTreeSet<Arc<AclRecord>>,
    patterns: HashMap<(AclResourceType, AclPatternType), Patterns>,
}

/// The patterns of one type.
#[derive(Default)]
struct Patterns {
    by_name: HashMap<String, ByPrincipal>,
    /// Lengths of the names in bytes, and how many have each: a look-up tries the prefixes that can exist only.
    lengths: BTreeMap<usize, usize>,
}

type ByPrincipal = HashMap<String, Vec<Arc<AclRecord>>>;

impl Acls {
    pub(crate) fn load(transaction: &WriteTransaction) -> Result<Self, Failure> {
        let mut acls = Self::default();
        for row in transaction.open_table(ACLS)?.iter()? {
            let (json, ()) = row.map(|(key, value)| (key, value.value()))?;
            let acl = serde_json::from_str(json.value());
            acls.add(acl.map_err(|e| Failure::Corrupt(format!("acls: unreadable at column {}", e.column())))?);
        }
        Ok(acls)
    }

    fn add(&mut self, acl: AclRecord) {
        let acl = Arc::new(acl);
        if !self.all.insert(Arc::clone(&acl)) {
            return;
        }
        let patterns = self.patterns.entry((acl.resource_type, acl.pattern_type)).or_default();
        let by_principal = patterns.by_name.entry(acl.resource_name.clone()).or_insert_with(|| {
            *patterns.lengths.entry(acl.resource_name.len()).or_default() += 1;
            ByPrincipal::default()
        });
        by_principal.entry(acl.principal.clone()).or_default().push(acl);
    }

    fn remove(&mut self, acl: &AclRecord) {
        if !self.all.remove(acl) {
            return;
        }
        let Some(patterns) = self.patterns.get_mut(&(acl.resource_type, acl.pattern_type)) else { return };
        let Some(by_principal) = patterns.by_name.get_mut(&acl.resource_name) else { return };
        if let Some(acls) = by_principal.get_mut(&acl.principal) {
            acls.retain(|held| **held != *acl);
            if acls.is_empty() {
                by_principal.remove(&acl.principal);
            }
        }
        if by_principal.is_empty() {
            patterns.by_name.remove(&acl.resource_name);
            if let Some(count) = patterns.lengths.get_mut(&acl.resource_name.len()) {
                *count -= 1;
                if *count == 0 {
                    patterns.lengths.remove(&acl.resource_name.len());
                }
            }
        }
    }

    fn about(
        &self,
        resource_type: AclResourceType,
        name: &str,
        principal: &str,
        mut look: impl FnMut(&AclRecord),
    ) -> bool {
        let mut is_any = false;
        let mut show = |found: Option<&ByPrincipal>| {
            let Some(by_principal) = found else { return };
            is_any = true;
            for acls in [principal, EVERYONE].iter().filter_map(|whom| by_principal.get(*whom)) {
                acls.iter().for_each(|acl| look(acl));
            }
        };
        if let Some(literals) = self.patterns.get(&(resource_type, AclPatternType::Literal)) {
            show(literals.by_name.get(name));
            if name != WILDCARD {
                show(literals.by_name.get(WILDCARD));
            }
        }
        if let Some(prefixes) = self.patterns.get(&(resource_type, AclPatternType::Prefixed)) {
            for (length, _) in prefixes.lengths.range(..=name.len()) {
                show(name.get(..*length).and_then(|prefix| prefixes.by_name.get(prefix)));
            }
        }
        is_any
    }
}

fn row(acl: &AclRecord) -> Result<String, Failure> {
    serde_json::to_string(acl).map_err(|e| Failure::Corrupt(e.to_string()))
}

fn add_row(t: &WriteTransaction, acl: &AclRecord) -> Result<(), Failure> {
    t.open_table(ACLS)?.insert(row(acl)?.as_str(), ())?;
    Ok(())
}

fn remove_row(t: &WriteTransaction, acl: &AclRecord) -> Result<(), Failure> {
    t.open_table(ACLS)?.remove(row(acl)?.as_str())?;
    Ok(())
}

#[cfg(test)]
mod tests;
