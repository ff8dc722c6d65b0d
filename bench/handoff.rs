//! `cargo bench --bench handoff`: what it costs to hand one answer from the task that read it to the one that waits for it.
//!
//! For `docs/decisions/0002`: a channel between threads (crossbeam) against one between tasks (tokio). Each round is a
//! request one way and an answer the other, as a client's call is.

use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// As many calls as a client may have on their way.
const DEPTH: usize = 64;

criterion_group!(benches, handoff);
criterion_main!(benches);

fn handoff(c: &mut Criterion) {
    let mut group = c.benchmark_group("handoff");
    let runtime = Runtime::new().expect("a runtime");
    group.bench_function("tokio mpsc, between tasks", |b| {
        b.iter_custom(|rounds| {
            // Both ends are tasks: the thread of a `block_on` would be parked and woken like any other.
            let asking = runtime.spawn(async move {
                let (ask, mut asked) = mpsc::channel::<u64>(DEPTH);
                let (answer, mut answers) = mpsc::channel::<u64>(DEPTH);
                tokio::spawn(async move {
                    while let Some(value) = asked.recv().await {
                        let _ = answer.send(value).await;
                    }
                });
                let began = std::time::Instant::now();
                for round in 0..rounds {
                    ask.send(round).await.expect("the task lives");
                    assert_eq!(answers.recv().await, Some(round));
                }
                began.elapsed()
            });
            runtime.block_on(asking).expect("joined")
        });
    });
    group.bench_function("crossbeam channel, between threads", |b| {
        let (ask, asked) = crossbeam::channel::bounded::<u64>(DEPTH);
        let (answer, answers) = crossbeam::channel::bounded::<u64>(DEPTH);
        let thread = std::thread::spawn(move || asked.iter().try_for_each(|value| answer.send(value)));
        b.iter_custom(|rounds| {
            let began = std::time::Instant::now();
            for round in 0..rounds {
                ask.send(round).expect("the thread lives");
                assert_eq!(answers.recv(), Ok(round));
            }
            began.elapsed()
        });
        drop(ask);
        assert!(thread.join().is_ok());
    });
    group.bench_function("crossbeam channel, from a task through spawn_blocking", |b| {
        b.iter_custom(|rounds| {
            let began = std::time::Instant::now();
            runtime.block_on(async {
                for round in 0..rounds {
                    let (answer, answers) = crossbeam::channel::bounded::<u64>(1);
                    tokio::spawn(async move { answer.send(round) });
                    let got = tokio::task::spawn_blocking(move || answers.recv()).await;
                    assert_eq!(got.expect("joined"), Ok(round));
                }
            });
            began.elapsed()
        });
    });
    group.finish();
}
