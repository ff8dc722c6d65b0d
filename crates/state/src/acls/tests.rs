use super::*;

fn acl(text: &str) -> AclRecord {
    let words: Vec<&str> = text.split(' ').collect();
    let [principal, permission, operation, resource_type, pattern_type, name, host] = words[..] else {
        panic!("{text}")
    };
    fn find<T: Copy>(all: &[T], name: &str, text: impl Fn(T) -> &'static str) -> T {
        all.iter().copied().find(|known| text(*known) == name).unwrap()
    }
    AclRecord {
        resource_type: find(AclResourceType::ALL, resource_type, AclResourceType::as_str),
        pattern_type: find(AclPatternType::ALL, pattern_type, AclPatternType::as_str),
        resource_name: name.into(),
        principal: principal.into(),
        host: host.into(),
        operation: find(AclOperation::ALL, operation, AclOperation::as_str),
        permission: find(AclPermission::ALL, permission, AclPermission::as_str),
    }
}

fn state() -> (tempfile::TempDir, State) {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(&folder.path().join("state")).unwrap();
    (folder, state)
}

#[test]
fn numbers_and_names_are_kafkas() {
    for (code, name) in [(2, "TOPIC"), (4, "CLUSTER"), (5, "TRANSACTIONAL_ID"), (7, "USER")] {
        assert_eq!(AclResourceType::of_code(code).unwrap().as_str(), name);
    }
    assert_eq!([-1, 0, 1, 8].map(AclResourceType::of_code), [None; 4]);
    assert_eq!((AclOperation::IdempotentWrite.code(), AclOperation::of_code(1)), (12, None));
    for operation in AclOperation::ALL {
        assert_eq!(serde_json::to_string(operation).unwrap(), format!("\"{}\"", operation.as_str()));
    }
}

/// `ResourcePatternFilterTest` and `AclBindingFilter`.
#[test]
fn filters_mean_what_kafkas_mean() {
    let (_folder, state) = state();
    let all = [
        "User:a ALLOW READ TOPIC LITERAL foo *",
        "User:a ALLOW READ TOPIC LITERAL * *",
        "User:b DENY WRITE TOPIC PREFIXED fo 10.0.0.1",
        "User:b ALLOW READ GROUP LITERAL foo *",
    ];
    state.change_acls(&all.map(acl), &[]).unwrap();
    let literal = PatternFilter::Exactly(AclPatternType::Literal);
    let prefixed = PatternFilter::Exactly(AclPatternType::Prefixed);
    let topics = AclFilter { resource_type: Some(AclResourceType::Topic), ..AclFilter::default() };
    let named = |pattern, name: &str| AclFilter { pattern, resource_name: Some(name.into()), ..topics.clone() };
    let table = [
        (AclFilter::default(), vec![0, 1, 2, 3]),
        (topics.clone(), vec![0, 1, 2]),
        (named(PatternFilter::Any, "foo"), vec![0]),
        (named(PatternFilter::Any, "*"), vec![1]),
        (named(PatternFilter::Match, "foo"), vec![0, 1, 2]),
        (named(PatternFilter::Match, "f"), vec![1]),
        (named(literal, "foo"), vec![0]),
        (named(prefixed, "foo"), vec![]),
        (named(prefixed, "fo"), vec![2]),
        (AclFilter { pattern: prefixed, ..topics.clone() }, vec![2]),
        (AclFilter { principal: Some("User:a".into()), ..AclFilter::default() }, vec![0, 1]),
        (AclFilter { host: Some("10.0.0.1".into()), ..AclFilter::default() }, vec![2]),
        (AclFilter { operation: Some(AclOperation::Write), ..AclFilter::default() }, vec![2]),
        (AclFilter { permission: Some(AclPermission::Deny), ..topics }, vec![2]),
    ];
    for (filter, expected) in table {
        let expected: BTreeSet<AclRecord> = expected.into_iter().map(|at: usize| acl(all[at])).collect();
        assert_eq!(state.acls(&filter).into_iter().collect::<BTreeSet<_>>(), expected, "{filter:?}");
    }
}

#[test]
fn a_change_is_whole_and_survives() {
    let (folder, state) = state();
    let [a, b, c] = ["a", "b", "c"].map(|name| acl(&format!("User:u ALLOW READ TOPIC LITERAL {name} *")));
    let changed = state.change_acls(&[a.clone(), b.clone(), a.clone()], std::slice::from_ref(&c)).unwrap();
    assert_eq!(changed, AclsChanged { added: vec![a.clone(), b.clone()], removed: vec![] });
    let version = state.catalogue_version();
    let changed = state.change_acls(&[b.clone(), c.clone()], &[a.clone(), b.clone()]).unwrap();
    assert_eq!(changed, AclsChanged { added: vec![c.clone()], removed: vec![a.clone()] });
    assert_ne!(state.catalogue_version(), version);
    assert_eq!(state.change_acls(&[], std::slice::from_ref(&a)).unwrap(), AclsChanged::default());
    drop(state);
    let state = State::open(&folder.path().join("state")).unwrap();
    assert_eq!(state.acls(&AclFilter::default()), [b, c]);
    assert!(!state.acls_about(AclResourceType::Topic, "a", "User:u", |_| ()));
}

/// The index finds what a look at every ACL finds, whatever was added and removed before.
#[test]
fn the_index_agrees_with_a_look_at_all() {
    let (_folder, state) = state();
    let names = ["*", "a", "ab", "abc", "b", "bc", "ü", "üb"];
    let mut all = Vec::new();
    for (at, name) in names.iter().enumerate() {
        for pattern_type in ["LITERAL", "PREFIXED"] {
            for principal in ["User:a", "User:b", "User:*"] {
                let operation = if at % 2 == 0 { "READ" } else { "WRITE" };
                all.push(acl(&format!("{principal} ALLOW {operation} TOPIC {pattern_type} {name} *")));
            }
        }
    }
    state.change_acls(&all, &[]).unwrap();
    let gone: Vec<AclRecord> = all.iter().step_by(3).cloned().collect();
    state.change_acls(&[], &gone).unwrap();
    let left = state.acls(&AclFilter::default());
    for name in ["a", "ab", "abcd", "b", "c", "ü", "übel", "*"] {
        for principal in ["User:a", "User:c"] {
            let mut found = BTreeSet::new();
            let is_any = state.acls_about(AclResourceType::Topic, name, principal, |acl| {
                assert!(found.insert(acl.clone()), "shown twice");
            });
            let about =
                AclFilter { pattern: PatternFilter::Match, resource_name: Some(name.into()), ..AclFilter::default() };
            let about: Vec<&AclRecord> = left.iter().filter(|acl| about.matches(acl)).collect();
            assert_eq!(is_any, !about.is_empty(), "{name}");
            let mine = about.into_iter().filter(|acl| [principal, EVERYONE].contains(&acl.principal.as_str()));
            assert_eq!(found, mine.cloned().collect(), "{name} {principal}");
        }
    }
}

/// What a decision looks at does not grow with the ACLs about others. `--nocapture` shows what it costs.
#[test]
fn a_decision_among_ten_thousand_looks_at_its_own() {
    let (_folder, state) = state();
    let mut all: Vec<AclRecord> = (0..9_990)
        .map(|at| match at % 3 {
            0 => format!("User:u{at} ALLOW READ TOPIC LITERAL topic-{at} *"),
            1 => format!("User:u{at} ALLOW READ TOPIC LITERAL * *"),
            _ => format!("User:u{at} ALLOW READ TOPIC PREFIXED topic-{at}- *"),
        })
        .map(|text| acl(&text))
        .collect();
    all.extend((0..10).map(|at| acl(&format!("User:me ALLOW READ TOPIC PREFIXED topic-{at} *"))));
    let began = std::time::Instant::now();
    state.change_acls(&all, &[]).unwrap();
    eprintln!("10,000 ACLs kept in {:?}", began.elapsed());
    let mut looked_at = 0;
    let began = std::time::Instant::now();
    for at in 0..10_000 {
        state.acls_about(AclResourceType::Topic, &format!("topic-{at}-1"), "User:me", |_| looked_at += 1);
    }
    eprintln!("{:?} a decision", began.elapsed() / 10_000);
    // The prefixes topic-0 … topic-9, of which one matches each name.
    assert_eq!(looked_at, 10_000);
}
