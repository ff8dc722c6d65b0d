//! Which ACLs to add and to remove. Those that were made at the destination are never touched: the link removes only what
//! it brought.

use crate::destination::AclsHere;
use std::collections::BTreeSet;

/// One ACL, in Kafka's own codes (`ResourceType`, `PatternType`, `AclOperation`, `AclPermissionType`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl {
    /// Topic 2, group 3, cluster 4, transactional id 5, delegation token 6, user 7.
    pub resource_type: i8,
    /// Of the resource.
    pub resource_name: String,
    /// Literal 3, prefixed 4.
    pub pattern_type: i8,
    /// `User:name`.
    pub principal: String,
    /// Address, or `*`.
    pub host: String,
    /// All 2, read 3, write 4, …
    pub operation: i8,
    /// Deny 2, allow 3.
    pub permission: i8,
}

/// What makes the link's share of the ACLs here equal to `wanted`: (to add, to remove).
pub(crate) fn difference(wanted: &BTreeSet<Acl>, here: &AclsHere) -> (Vec<Acl>, Vec<Acl>) {
    let add = wanted.iter().filter(|acl| !here.of_link.contains(acl) && !here.made_here.contains(acl));
    let remove = here.of_link.iter().filter(|acl| !wanted.contains(acl));
    (add.cloned().collect(), remove.cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(name: &str) -> Acl {
        Acl {
            resource_type: 2,
            resource_name: name.to_owned(),
            pattern_type: 3,
            principal: "User:ann".to_owned(),
            host: "*".to_owned(),
            operation: 3,
            permission: 3,
        }
    }

    #[test]
    fn brings_what_is_new_and_takes_away_only_what_it_brought() {
        let set = |names: &[&str]| names.iter().map(|name| acl(name)).collect::<BTreeSet<_>>();
        let here = AclsHere { of_link: set(&["kept", "gone"]), made_here: set(&["own", "both"]) };
        let (add, remove) = difference(&set(&["kept", "new", "both"]), &here);
        assert_eq!(add, [acl("new")]);
        assert_eq!(remove, [acl("gone")]);
        assert_eq!(difference(&set(&["kept", "gone"]), &here), (vec![], vec![]));
    }
}
