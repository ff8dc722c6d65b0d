#![forbid(unsafe_code)]
//! What the process-level tests share: the binary, and a stock cluster with a destination and a source daemon and the
//! link between them, made as in scenario A.

mod alike;
mod clients;
mod pair;
mod sessions;
pub mod tutorial;

pub use alike::ensure_alike;
pub use clients::{Client, Login, digests_of_other_clients};
pub use pair::{LINK, Pair, SOURCE_LOGIN, SOURCE_PASSWORD};
pub use sessions::{Run, Session};

use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `hawser` binary: `HAWSER_BIN` if set (by `cargo xtask test`), else built in the profile of this test.
///
/// # Errors
/// When it cannot be built.
pub fn binary() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let binary = BINARY.get_or_init(|| match std::env::var_os("HAWSER_BIN") {
        Some(binary) => Ok(binary.into()),
        None => build().map_err(|e| format!("{e:#}")),
    });
    binary.clone().map_err(anyhow::Error::msg)
}

/// Says what a run measured, past libtest, which keeps what a test that passes prints. `cargo xtask test` repeats these
/// lines at its end.
pub fn figure(text: &str) {
    // The line may come while libtest stands in the middle of one of its own. Who does not listen misses nothing else.
    let _ = writeln!(std::io::stdout(), "\nfigure: {text}");
}

/// Tests run from `target/PROFILE/deps`.
fn build() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile_dir = test.ancestors().nth(2).context("test outside of a target folder")?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "hawser"]).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    if profile_dir.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().context("start cargo build")?;
    ensure!(status.success(), "cargo build --package hawser: {status}");
    Ok(profile_dir.join("hawser"))
}
