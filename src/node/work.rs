//! Tasks done by a command: each is a process, which reads the input, writes the output, and says on standard error how far it is.

use std::io;
use std::process::Stdio;

use futures::future::{BoxFuture, try_join3};
use futures::{AsyncRead, AsyncReadExt as _, FutureExt as _};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::base::{Code, Error};
use crate::proto::task::message::PART;
use crate::runtime::task::{Job, Work};

/// The longest line of progress, bytes; what is behind it in that line is left out.
const LINE: u64 = 4 * 1024;
/// What is kept of the last words of a command that fails, bytes.
const LAST: usize = 256;

/// A command and its arguments. It is killed when its task is cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    command: String,
    arguments: Vec<String>,
}

impl Program {
    /// Reads a command line. What is between white space is an argument; there is no quoting, and no shell.
    ///
    /// # Errors
    /// [`Code::BadArgument`] if there is no word in it.
    pub fn parse(line: &str) -> Result<Program, Error> {
        let mut words = line.split_whitespace().map(str::to_owned);
        let command = words.next().ok_or_else(|| Error::new(Code::BadArgument, "there is no command"))?;
        Ok(Program { command, arguments: words.collect() })
    }

    async fn carry_out(self, mut job: Job) -> Result<(), Error> {
        let failed = |e: io::Error| Error::new(Code::SupplierFailed, format!("{} cannot be run", self.command)).caused_by(e);
        let mut child = Command::new(&self.command)
            .args(&self.arguments)
            .env("PEERAGE_CAPABILITY", &job.ticket.capability)
            .env("PEERAGE_DEMANDER", job.ticket.demander.to_string())
            .env("PEERAGE_TASK", format!("{:032x}", u128::from_be_bytes(job.ticket.task)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (Some(stdin), Some(mut stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err(Error::new(Code::SupplierFailed, "a process without its pipes"));
        };
        let mut voice = job.another();
        let input = std::mem::replace(&mut job.input, Box::pin(futures::io::empty()));
        let feed = feed(input, stdin);
        let output = async {
            let mut part = vec![0; PART];
            loop {
                match stdout.read(&mut part).await.map_err(broken)? {
                    0 => return Ok(()),
                    n => job.write(&part[..n]).await?,
                }
            }
        };
        let progress = async {
            let (mut lines, mut last) = (BufReader::new(stderr), Vec::new());
            while let Some(line) = next_line(&mut lines).await.map_err(broken)? {
                voice.progress(&line).await?;
                last = line;
            }
            Ok(last)
        };
        let ((), (), last) = try_join3(feed, output, progress).await?;
        let status = child.wait().await.map_err(broken)?;
        if status.success() {
            return Ok(());
        }
        let last = String::from_utf8_lossy(&last[..last.len().min(LAST)]).into_owned();
        Err(Error::new(Code::TaskFailed, format!("the supplier's command failed ({status}): {last}")))
    }
}

impl Work for Program {
    fn run(&self, job: Job) -> BoxFuture<'static, Result<(), Error>> {
        self.clone().carry_out(job).boxed()
    }
}

fn broken(cause: io::Error) -> Error {
    Error::new(Code::SupplierFailed, "the pipe to a command broke").caused_by(cause)
}

/// A command that wants no more of its input is not in the wrong.
async fn feed(mut input: std::pin::Pin<Box<dyn AsyncRead + Send>>, mut stdin: tokio::process::ChildStdin) -> Result<(), Error> {
    let mut part = vec![0; PART];
    loop {
        let n = input.read(&mut part).await.map_err(|e| Error::new(Code::Aborted, "the input ended in its middle").caused_by(e))?;
        if n == 0 || stdin.write_all(&part[..n]).await.is_err() {
            // Dropped, it ends.
            return Ok(());
        }
    }
}

/// The next line, without its end and without what is too much of it.
async fn next_line(lines: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if (&mut *lines).take(LINE).read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    while line.last() != Some(&b'\n') {
        let rest = lines.fill_buf().await?;
        let (n, ended) = rest.iter().position(|b| *b == b'\n').map_or((rest.len(), rest.is_empty()), |at| (at + 1, true));
        lines.consume(n);
        if ended {
            return Ok(Some(line));
        }
    }
    line.pop();
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_where_they_are_too_long() {
        let long = "x".repeat(10_000);
        let text = format!("one\n\n{long}\nthree\n{long}");
        let mut lines = BufReader::with_capacity(100, text.as_bytes());
        let mut all = Vec::new();
        while let Some(line) = next_line(&mut lines).await.unwrap() {
            all.push(String::from_utf8(line).unwrap());
        }
        let cut = &long[..4_096];
        assert_eq!(all, ["one", "", cut, "three", cut]);
    }

    #[test]
    fn a_command_is_its_words() {
        let program = Program::parse("  python3  grid.py --cell 0.05 ").unwrap();
        assert_eq!((program.command.as_str(), program.arguments.join("|").as_str()), ("python3", "grid.py|--cell|0.05"));
        assert_eq!(Program::parse(" ").unwrap_err().code(), Code::BadArgument);
    }
}
