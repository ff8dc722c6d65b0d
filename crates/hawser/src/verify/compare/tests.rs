//! Every way in which two runs may differ.

use super::*;
use bytes::BytesMut;
use hawser_testkit::batches::{BatchBuilder, Record};

const END: Offset = Offset(i64::MAX);

fn batch(base: i64, records: usize) -> Bytes {
    BatchBuilder::at(base).records(records, 20).build()
}

fn run(batches: &[Bytes]) -> Bytes {
    batches
        .iter()
        .fold(BytesMut::new(), |mut out, b| {
            out.extend_from_slice(b);
            out
        })
        .freeze()
}

#[test]
fn equal_runs_are_counted_whole() {
    let bytes = run(&[batch(0, 3), batch(3, 1), batch(9, 2)]);
    let got = compare(Offset(0), END, bytes.clone(), bytes.clone());
    assert_eq!(got, Compared { batches: 3, bytes: bytes.len() as u64, next: Offset(11), findings: vec![] });
}

#[test]
fn a_cut_off_end_on_either_side_ends_the_comparison_there() {
    let whole = run(&[batch(0, 3), batch(3, 4)]);
    let cut = whole.slice(..whole.len() - 1);
    for (source, mirror) in [(cut.clone(), whole.clone()), (whole.clone(), cut)] {
        let got = compare(Offset(0), END, source, mirror);
        assert_eq!((got.batches, got.next, got.findings.len()), (1, Offset(3), 0));
    }
    let got = compare(Offset(0), END, Bytes::new(), whole);
    assert_eq!((got.batches, got.next), (0, Offset(0)));
}

#[test]
fn batches_before_the_place_and_beyond_the_bound_are_left_alone() {
    let source = run(&[batch(0, 3), batch(3, 2), batch(5, 1)]);
    let mirror = run(&[batch(3, 2), batch(5, 9)]);
    let got = compare(Offset(4), Offset(5), source, mirror);
    assert_eq!((got.batches, got.next, got.findings.len()), (1, Offset(5), 0));
}

#[test]
fn any_single_byte_is_found() {
    let good = batch(0, 2);
    for at in [12, 20, 25, 28, good.len() - 1] {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        let got = compare(Offset(0), END, good.clone(), Bytes::from(bad));
        let [Finding::Unequal { first_byte, .. }] = got.findings.as_slice() else { panic!("{at}: {got:?}") };
        assert_eq!((*first_byte, got.batches, got.next), (at, 0, Offset(2)));
    }
}

#[test]
fn the_same_rot_on_both_sides_is_still_found() {
    let mut rotten = batch(0, 2).to_vec();
    *rotten.last_mut().unwrap() ^= 1;
    let rotten = Bytes::from(rotten);
    let got = compare(Offset(0), END, rotten.clone(), rotten);
    assert!(matches!(got.findings.as_slice(), [Finding::Corrupt { mirror: true, .. }]), "{got:?}");
}

#[test]
fn a_batch_on_one_side_only_is_named_and_stepped_over() {
    let (long, short) = (run(&[batch(0, 2), batch(2, 2), batch(4, 2)]), run(&[batch(0, 2), batch(4, 2)]));
    let got = compare(Offset(0), END, short.clone(), long.clone());
    let [Finding::OnlyMirror { batch, until: Offset(4) }] = got.findings.as_slice() else { panic!("{got:?}") };
    assert_eq!((batch.base, batch.last, got.batches, got.next), (Offset(2), Offset(3), 2, Offset(6)));
    assert!(got.findings[0].is_explained_by_compaction());
    let got = compare(Offset(0), END, long, short);
    assert!(matches!(got.findings.as_slice(), [Finding::OnlySource { until: Offset(4), .. }]), "{got:?}");
    assert!(!got.findings[0].is_explained_by_compaction());
}

#[test]
fn compaction_explains_fewer_records_at_the_source_but_not_more() {
    let full = BatchBuilder::at(0).record(Record::keyed("a", "1")).record(Record::keyed("b", "2")).build();
    let compacted = BatchBuilder::at(0).record(Record::keyed("b", "2")).last_offset_delta(1).build();
    let explained = |source: &Bytes, mirror: &Bytes| {
        let got = compare(Offset(0), END, source.clone(), mirror.clone());
        got.findings.iter().map(Finding::is_explained_by_compaction).collect::<Vec<_>>()
    };
    assert_eq!(explained(&compacted, &full), [true]);
    assert_eq!(explained(&full, &compacted), [false]);
}

#[test]
fn what_is_no_batch_ends_the_comparison_with_its_side() {
    let good = batch(0, 1);
    let mut bad = good.to_vec();
    bad[16] = 1;
    let bad = Bytes::from(bad);
    let got = compare(Offset(0), END, good.clone(), bad.clone());
    assert!(matches!(got.findings.as_slice(), [Finding::Corrupt { mirror: true, .. }]));
    let got = compare(Offset(0), END, bad, good);
    assert!(matches!(got.findings.as_slice(), [Finding::Corrupt { mirror: false, .. }]));
}
