//! `cargo xtask layers`: the dependency rule of ARCHITECTURE.md, read from Cargo's own metadata.
//!
//! A crate may use crates of lower rows only, and no two of one row know each other. The lowest two rows hold decisions
//! and formats and do no I/O, so tokio may not be among their dependencies. Crates for tests and tasks are used by
//! nothing that ships.

use crate::root;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::process::Command;

/// From the bottom up.
const ROWS: [&[&str]; 6] = [
    &["hawser-wire"],
    &["hawser-link"],
    &["hawser-transport", "hawser-log", "hawser-state"],
    &["hawser-store"],
    &["hawser-outbound", "hawser-inbound", "hawser-replicate", "hawser-sync", "hawser-broker"],
    &["hawser"],
];
/// Rows without I/O.
const PURE_ROWS: usize = 2;
/// What only tests and developers use: free to depend on anything, a normal dependency of nothing.
const UNSHIPPED: [&str; 3] = ["hawser-testkit", "hawser-tests", "xtask"];

/// A normal or build dependency of a workspace member.
struct Edge {
    from: String,
    to: String,
}

/// Checks the workspace and names every dependency that breaks the rule.
pub(crate) fn run() -> Result<()> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .context("start cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let (members, edges) = read(&serde_json::from_slice(&output.stdout)?)?;
    let broken = violations(&members, &edges);
    ensure!(broken.is_empty(), "the layers are broken:\n{}", broken.join("\n"));
    println!("layers: {} crates keep to their rows", members.len());
    Ok(())
}

fn read(metadata: &Value) -> Result<(Vec<String>, Vec<Edge>)> {
    let (mut members, mut edges) = (Vec::new(), Vec::new());
    let packages = metadata["packages"].as_array().context("no packages in cargo metadata")?;
    for package in packages {
        let Some(from) = package["name"].as_str() else { bail!("package without a name") };
        members.push(from.to_owned());
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let is_dev = dependency["kind"].as_str() == Some("dev");
            if let (false, Some(to)) = (is_dev, dependency["name"].as_str()) {
                edges.push(Edge { from: from.to_owned(), to: to.to_owned() });
            }
        }
    }
    Ok((members, edges))
}

fn violations(members: &[String], edges: &[Edge]) -> Vec<String> {
    let mut broken = Vec::new();
    let shipped = |name: &str| !UNSHIPPED.contains(&name);
    for name in members.iter().filter(|n| shipped(n) && row(n).is_none()) {
        broken.push(format!("{name} has no row: give it one in xtask/src/layers.rs and ARCHITECTURE.md"));
    }
    for Edge { from, to } in edges.iter().filter(|e| shipped(&e.from)) {
        let from_row = row(from);
        if !shipped(to) {
            broken.push(format!("{from} ships and depends on {to}, which does not (make it a dev-dependency)"));
        }
        if to == "tokio" && from_row.is_some_and(|r| r < PURE_ROWS) {
            broken.push(format!("{from} does no I/O and may not depend on tokio"));
        }
        if let (Some(from_row), Some(to_row)) = (from_row, row(to))
            && to_row >= from_row
        {
            broken.push(format!("{from} (row {from_row}) may not depend on {to} (row {to_row})"));
        }
    }
    broken
}

fn row(name: &str) -> Option<usize> {
    ROWS.iter().position(|crates| crates.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken_by(from: &str, to: &str) -> Vec<String> {
        violations(&[from.to_owned()], &[Edge { from: from.to_owned(), to: to.to_owned() }])
    }

    #[test]
    fn only_downward_dependencies_pass() {
        for (from, to) in [
            ("hawser", "hawser-broker"),
            ("hawser-link", "hawser-wire"),
            ("hawser-store", "hawser-log"),
            ("hawser-log", "tokio"),
            ("xtask", "hawser"),
            ("hawser-testkit", "hawser-wire"),
        ] {
            assert!(broken_by(from, to).is_empty(), "{from} -> {to}: {:?}", broken_by(from, to));
        }
        for (from, to) in [
            ("hawser-wire", "hawser-link"),
            ("hawser-log", "hawser-transport"),
            ("hawser-outbound", "hawser-inbound"),
            ("hawser-link", "tokio"),
            ("hawser", "hawser-testkit"),
            ("hawser-unheard-of", "bytes"),
        ] {
            assert_eq!(broken_by(from, to).len(), 1, "{from} -> {to}");
        }
    }
}
