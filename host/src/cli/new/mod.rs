//! `sockserve new`: a project of a handler, from the templates in `examples/`.
//!
//! | file | |
//! | --- | --- |
//! | `languages` | what there is for each language |
//! | `files` | the embedded files |

pub(super) mod files;
mod languages;

use super::dev::file;
use super::{Failure, output};
use crate::text;
use anyhow::{Context as _, anyhow};
use clap::Args;
use languages::{Commands, Language};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The name of the project that a template is.
const TEMPLATE: &str = "my-handler";

#[derive(Args)]
pub(super) struct Options {
    /// The folder to make. Its last part is the project's name: small letters, digits
    /// and single hyphens
    name: PathBuf,
    /// The language of the handler
    #[arg(long, value_enum)]
    lang: Language,
    /// Which contract it has: blocking, evented, concurrent, datagram,
    /// datagram-concurrent or command; not every language has all [default: blocking;
    /// go: command]
    #[arg(long)]
    contract: Option<String>,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let (folder, language) = (&options.name, options.lang);
    let name = project_name(folder)?;
    let contracts = language.contracts();
    let contract = options.contract.as_deref();
    let contract = contract.unwrap_or(language.default_contract());
    if !contracts.contains(&contract) {
        return Err(Failure::usage(anyhow!(
            "there is no template in {} for the contract {}; there is {}",
            language.name(),
            text::escape(contract),
            contracts.join(", ")
        )));
    }
    let shown = text::path(folder);
    if files::has_content(folder).with_context(|| format!("cannot read {shown}"))? {
        return Err(Failure::usage(anyhow!(
            "{shown} is there and not empty; name a new folder"
        )));
    }
    let commands = language.commands(name, contract);
    let url = url(contract);
    // A link that leads nowhere is there, and stays.
    let is_new = folder.symlink_metadata().is_err();
    write(folder, name, language, contract, &commands, url).inspect_err(|_| {
        // Half a project would be in the way of the next try.
        files::remove(folder, is_new);
    })?;
    let what = format!(
        "{name}: a handler in {}, contract {contract}",
        language.name()
    );
    print(folder, &what, url, &commands).context("cannot print")?;
    Ok(ExitCode::SUCCESS)
}

/// Writes all files of a project.
fn write(
    folder: &Path,
    name: &str,
    language: Language,
    contract: &str,
    commands: &Commands,
    url: &str,
) -> anyhow::Result<()> {
    for (path, bytes) in language.template(contract) {
        files::write(&folder.join(path), &renamed(bytes, name))?;
    }
    if let Some((from, to)) = language.library() {
        for (path, bytes) in files::under(from) {
            files::write(&folder.join(to).join(path), bytes)?;
        }
    }
    let project = file::text(commands.build, &commands.component, url)?;
    files::write(&folder.join(file::PATH), project.as_bytes())
}

/// The project's name, which has to be one in every language.
fn project_name(folder: &Path) -> Result<&str, Failure> {
    let name = folder.file_name().and_then(|name| name.to_str());
    let is_word = |word: &str| {
        let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        !word.is_empty() && word.bytes().all(is_known)
    };
    name.filter(|name| {
        let begins = name.starts_with(|first: char| first.is_ascii_lowercase());
        begins && name.len() <= 64 && name.split('-').all(is_word)
    })
    .ok_or_else(|| {
        Failure::usage(anyhow!(
            "{}: no name for a project; write small letters, digits and single hyphens, and a \
             letter first, for example my-handler",
            text::path(folder)
        ))
    })
}

/// A file of the template, with the project's name in the place of its own.
fn renamed(bytes: &[u8], name: &str) -> Vec<u8> {
    match str::from_utf8(bytes) {
        Ok(text) => text
            .replace(TEMPLATE, name)
            .replace(&TEMPLATE.replace('-', "_"), &name.replace('-', "_"))
            .into_bytes(),
        Err(_) => bytes.to_vec(),
    }
}

/// Where a project is served, if nothing else is said.
fn url(contract: &str) -> &'static str {
    if contract.starts_with("datagram") {
        "udp://127.0.0.1:7000"
    } else {
        "tcp://127.0.0.1:7000"
    }
}

/// Says what to type next.
fn print(folder: &Path, what: &str, url: &str, commands: &Commands) -> std::io::Result<()> {
    let mut stdout = output::stdout();
    let Commands {
        build,
        test,
        component,
        needs,
    } = commands;
    writeln!(stdout, "{what}")?;
    writeln!(stdout, "  go there:  cd {}", text::path(folder))?;
    writeln!(stdout, "  edit it:   sockserve dev")?;
    writeln!(stdout, "  build it:  {build}")?;
    writeln!(
        stdout,
        "  serve it:  sockserve serve {component} --listen {url}"
    )?;
    writeln!(stdout, "  test it:   {test}")?;
    writeln!(stdout, "  it needs:  {needs}")?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_in_every_language() {
        for name in ["a", "echo", "my-handler", "a1-2b", "somewhere/else/x"] {
            assert!(project_name(name.as_ref()).is_ok(), "{name}");
        }
        for name in [
            "", "/", "..", "1a", "-a", "a-", "a--b", "A", "a_b", "a b", "ä", "a.b",
        ] {
            assert!(project_name(name.as_ref()).is_err(), "{name}");
        }
        assert!(project_name("a".repeat(64).as_ref()).is_ok());
        assert!(project_name("a".repeat(65).as_ref()).is_err());
    }

    #[test]
    fn every_language_has_a_template() {
        for language in <Language as clap::ValueEnum>::value_variants() {
            let default = language.default_contract();
            assert!(language.contracts().contains(&default), "{language:?}");
            if let Some((library, _)) = language.library() {
                assert!(files::under(library).next().is_some(), "{library}");
            }
        }
    }
}
