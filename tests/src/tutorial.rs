//! Runs a tutorial from its own code blocks: files and commands in the order of the page, each at the site that its block
//! names, in one shell a site. Output that the page shows must come; `…` in it stands for anything.

use crate::figure;
use anyhow::{Context, Result, bail, ensure};
use hawser_testkit::kafka::{Home, Jvm, Version};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// No block of a tutorial takes longer, on a slow machine either.
const BLOCK_LIMIT: Duration = Duration::from_secs(180);
/// Printed by the shell when a block is done.
const DONE: &str = "@@done";
/// Kafka's own commands and the classes behind them.
const TOOLS: [(&str, &str); 9] = [
    ("kafka-acls", "org.apache.kafka.tools.AclCommand"),
    ("kafka-cluster", "org.apache.kafka.tools.ClusterTool"),
    ("kafka-configs", "kafka.admin.ConfigCommand"),
    ("kafka-console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
    ("kafka-console-producer", "org.apache.kafka.tools.ConsoleProducer"),
    ("kafka-consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
    ("kafka-server-start", "kafka.Kafka"),
    ("kafka-storage", "kafka.tools.StorageTool"),
    ("kafka-topics", "org.apache.kafka.tools.TopicCommand"),
];

/// A code block that means something.
#[derive(Debug, PartialEq, Eq)]
enum Block {
    File { site: String, name: String, text: String },
    Commands { site: String, line: usize, text: String, output: String },
}

/// A place where commands are run.
pub struct Site {
    /// As blocks name it.
    pub name: &'static str,
    /// What its shell is put behind; it must give it a mount namespace of its own.
    pub wrapper: Vec<String>,
    /// Files that the page takes for granted, by name.
    pub given: Vec<(&'static str, String)>,
}

/// The sites after the last block of their page; all that runs there ends with this.
pub struct Sites {
    shells: BTreeMap<&'static str, Shell>,
    _folder: tempfile::TempDir,
}

impl Sites {
    /// Runs further commands at `site`; what they print.
    ///
    /// # Errors
    /// When one fails.
    pub fn run(&mut self, site: &str, commands: &str) -> Result<String> {
        self.shells.get_mut(site).with_context(|| format!("no site {site}"))?.run(commands)
    }

    /// The folder that `site` works in.
    ///
    /// # Errors
    /// When there is no such site.
    pub fn folder(&self, site: &str) -> Result<&Path> {
        self.shells.get(site).map(|shell| shell.folder.as_path()).with_context(|| format!("no site {site}"))
    }
}

/// Runs `page`. `hosts` are lines for every site's `/etc/hosts`.
///
/// # Errors
/// At the first block that fails, or whose output lacks a line that the page shows: with the block, and what was printed.
pub fn run(page: &str, sites: Vec<Site>, hosts: &str) -> Result<Sites> {
    let began = Instant::now();
    let folder = hawser_testkit::kafka::scratch_folder("tutorial")?;
    let tools = folder.path().join("bin");
    write_tools(&tools)?;
    let mut shells = BTreeMap::new();
    for site in sites {
        let own = folder.path().join(site.name);
        fs::create_dir_all(&own)?;
        for (name, text) in &site.given {
            fs::write(own.join(name), text)?;
        }
        let hosts_file = own.join(".hosts");
        fs::write(&hosts_file, format!("127.0.0.1 localhost\n{hosts}"))?;
        shells.insert(site.name, Shell::start(&site.wrapper, own, &tools, &hosts_file)?);
    }
    for block in blocks(page)? {
        let at = |name: &str| format!("the page names a site '{name}' that there is not");
        match block {
            Block::File { site, name, text } => {
                let shell = shells.get(site.as_str()).with_context(|| at(&site))?;
                fs::write(shell.folder.join(name), text)?;
            }
            Block::Commands { site, line, text, output } => {
                let shell = shells.get_mut(site.as_str()).with_context(|| at(&site))?;
                let printed = shell.run(&text).with_context(|| format!("line {line}, at {site}"))?;
                check(&output, &printed)
                    .with_context(|| format!("line {line}, at {site}:\n{text}\nprinted:\n{printed}"))?;
                // The page has the reader run such a line at the other sites, too.
                for export in printed.lines().filter(|line| line.starts_with("export ")) {
                    for (_, other) in shells.iter_mut().filter(|(name, _)| **name != site) {
                        other.run(export)?;
                    }
                }
            }
        }
    }
    let title = page.lines().next().unwrap_or_default();
    figure(&format!("tutorial \"{}\": {:.0?}", title.trim_start_matches("# "), began.elapsed()));
    Ok(Sites { shells, _folder: folder })
}

/// Scripts that start Kafka's tools, and `hawser` under its names.
fn write_tools(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let home = Home::find(Version::V4_3)?;
    for (name, class) in TOOLS {
        // A broker's log cleaner alone takes 128 MiB.
        let heap_mb = if name == "kafka-server-start" { 512 } else { 192 };
        let command = home.program(class, Jvm::quick(heap_mb), None).command();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let mut quoted: Vec<_> =
            words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))).collect();
        if name == "kafka-server-start" {
            // As Kafka's own script has it: the line that says that it serves is an INFO.
            for word in &mut quoted {
                *word = word.replace("hawser.log.level=WARN", "hawser.log.level=INFO");
            }
        }
        let script = folder.join(name);
        fs::write(&script, format!("#!/bin/sh\nexec {} \"$@\"\n", quoted.join(" ")))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    }
    for name in ["hawser", "kafka-cluster-links", "kafka-mirrors"] {
        symlink(crate::binary()?, folder.join(name))?;
    }
    Ok(())
}

/// The shell of one site, with everything that was started in it.
struct Shell {
    folder: PathBuf,
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Shell {
    fn start(wrapper: &[String], folder: PathBuf, tools: &Path, hosts: &Path) -> Result<Self> {
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
        let mut words = wrapper.iter().map(String::as_str).chain(["/bin/sh"]);
        let mut child = Command::new(words.next().unwrap_or("/bin/sh"))
            .args(words)
            .current_dir(&folder)
            .env("PATH", path)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("start a shell")?;
        let (input, output) = (child.stdin.take().context("no input")?, child.stdout.take().context("no output")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut shell = Self { folder, child, input, lines };
        shell.run(&format!("exec 2>&1\nmount --bind '{}' /etc/hosts", hosts.display()))?;
        Ok(shell)
    }

    /// Runs `commands`; what they printed. The first that fails ends the shell.
    fn run(&mut self, commands: &str) -> Result<String> {
        writeln!(self.input, "set -e\n{commands}\nset +e\necho '{DONE}'")?;
        self.input.flush()?;
        let (deadline, mut printed) = (Instant::now() + BLOCK_LIMIT, String::new());
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line == DONE => return Ok(printed),
                Ok(line) => {
                    printed.push_str(&line);
                    printed.push('\n');
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("not done after {BLOCK_LIMIT:?}:\n{commands}\nprinted:\n{printed}\n{}", self.logs())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("a command failed:\n{commands}\nprinted:\n{printed}\n{}", self.logs())
                }
            }
        }
    }

    /// The last lines of every log that the page's commands write.
    fn logs(&self) -> String {
        let mut tails = String::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                let tail = lines[lines.len().saturating_sub(15)..].join("\n");
                tails.push_str(&format!("--- {}\n{tail}\n", entry.path().display()));
            }
        }
        tails
    }
}

impl Drop for Shell {
    /// Ends what the page left running: background commands stand in the shell's process group.
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}

/// The blocks of a page, in order.
fn blocks(page: &str) -> Result<Vec<Block>> {
    let (mut found, mut lines) = (Vec::new(), page.lines().enumerate());
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let mut text = String::new();
        loop {
            let (_, line) = lines.next().with_context(|| format!("line {}: a block without an end", number + 1))?;
            if line == "```" {
                break;
            }
            text.push_str(line);
            text.push('\n');
        }
        match info.split_whitespace().collect::<Vec<_>>()[..] {
            ["sh", site] => {
                found.push(Block::Commands { site: site.to_owned(), line: number + 1, text, output: String::new() });
            }
            ["text"] => match found.last_mut() {
                Some(Block::Commands { output, .. }) if output.is_empty() => *output = text,
                _ => bail!("line {}: output that belongs to no command", number + 1),
            },
            ["properties", site, name] => {
                found.push(Block::File { site: site.to_owned(), name: name.to_owned(), text });
            }
            _ => bail!("line {}: ```{info} says not where it belongs", number + 1),
        }
    }
    Ok(found)
}

/// Whether every line of `shown` was printed, in order.
fn check(shown: &str, printed: &str) -> Result<()> {
    let mut lines = printed.lines();
    for wanted in shown.lines() {
        ensure!(lines.any(|line| matches(wanted, line)), "not printed: {wanted}");
    }
    Ok(())
}

/// Whether `line` is as `wanted`, where `…` stands for anything.
fn matches(wanted: &str, line: &str) -> bool {
    let mut parts = wanted.trim_end().split('…');
    let (first, line) = (parts.next().unwrap_or_default(), line.trim_end());
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_match_around_what_is_left_open() {
        for (wanted, line, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a…", "ab", true),
            ("…b", "ab", true),
            ("…b…", "abc", true),
            ("a…c", "abc", true),
            ("a…c", "abd", false),
            ("…1…2…", "2 1", false),
            ("id: '…', x", "id: 'q', x", true),
        ] {
            assert_eq!(matches(wanted, line), expected, "{wanted} {line}");
        }
        assert!(check("1\n3\n", "0\n1\n2\n3\n").is_ok());
        assert!(check("3\n1\n", "0\n1\n2\n3\n").is_err());
    }

    #[test]
    fn blocks_say_where_they_belong() {
        let page = "x\n```properties a f.config\nk=v\n```\n```sh a\nls\n```\n```text\nf.config\n```\n";
        let found = blocks(page).unwrap();
        let file = Block::File { site: "a".into(), name: "f.config".into(), text: "k=v\n".into() };
        let (text, output) = ("ls\n".into(), "f.config\n".into());
        assert_eq!(found, [file, Block::Commands { site: "a".into(), line: 5, text, output }]);
        for wrong in ["```\nx\n```\n", "```sh\nx\n```\n", "```text\nx\n```\n", "```sh a\nx\n"] {
            assert!(blocks(wrong).is_err(), "{wrong}");
        }
    }
}
