//! The client's side of the GDB remote serial protocol, as far as an emulator's stub needs it (GDB manual, appendix E).

use anyhow::{Context, Result, bail};
use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Bytes of memory that one packet carries; stubs take packets of at least 4096 characters.
const MEMORY_CHUNK: usize = 1024;
/// How long a stub may take to answer anything but `resume`.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A connection to a stub.
pub struct GdbClient {
    output: Box<dyn Write + Send>,
    input: Receiver<Vec<u8>>,
    pending: Vec<u8>,
    at: usize,
}

/// Why the target stands still again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A breakpoint or the end of a step (SIGTRAP).
    Trap,
    /// Anything else: the stub's signal number.
    Signal(u8),
    /// It did not stop within the time limit; it was interrupted.
    TimeLimit,
}

impl GdbClient {
    /// A client that reads the stub's packets from `input` and writes to `output`.
    pub fn new(mut input: impl Read + Send + 'static, output: impl Write + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        // A pipe has no read timeout; a thread of its own gives it one. It ends with the pipe.
        std::thread::spawn(move || {
            let mut chunk = vec![0; 8192];
            loop {
                match input.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(count) if sender.send(chunk[..count].to_vec()).is_err() => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        });
        Self { output: Box::new(output), input: receiver, pending: Vec::new(), at: 0 }
    }

    /// The next byte, or none if none came within `limit`.
    fn byte(&mut self, limit: Duration) -> Result<Option<u8>> {
        while self.at == self.pending.len() {
            match self.input.recv_timeout(limit) {
                Ok(bytes) => (self.pending, self.at) = (bytes, 0),
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => bail!("the debugger stub has closed the connection"),
            }
        }
        self.at += 1;
        Ok(Some(self.pending[self.at - 1]))
    }

    fn send(&mut self, packet: &str) -> Result<()> {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        let framed = format!("${packet}#{sum:02x}");
        self.output.write_all(framed.as_bytes()).context("cannot write to the debugger stub")?;
        self.output.flush().context("cannot write to the debugger stub")
    }

    /// The next packet's contents, acknowledged; none if it did not come within `limit`.
    fn receive(&mut self, limit: Duration) -> Result<Option<String>> {
        loop {
            match self.byte(limit)? {
                None => return Ok(None),
                Some(b'$') => break,
                // Acknowledgements, and notes of no interest.
                Some(_) => {}
            }
        }
        let mut text = String::new();
        loop {
            match self.byte(ANSWER_LIMIT)? {
                None => bail!("the debugger stub sent half a packet"),
                Some(b'#') => break,
                // Run-length encoding: the character before is repeated.
                Some(b'*') => {
                    let count = self.byte(ANSWER_LIMIT)?.unwrap_or(29).saturating_sub(29);
                    let last = text.chars().last().unwrap_or('0');
                    text.extend(std::iter::repeat_n(last, count.into()));
                }
                Some(byte) => text.push(char::from(byte)),
            }
        }
        // The checksum: a pipe loses nothing.
        self.byte(ANSWER_LIMIT)?;
        self.byte(ANSWER_LIMIT)?;
        self.output.write_all(b"+").context("cannot write to the debugger stub")?;
        Ok(Some(text))
    }

    /// Sends a packet and returns the answer.
    pub fn command(&mut self, packet: &str) -> Result<String> {
        self.send(packet)?;
        let answer = self.receive(ANSWER_LIMIT)?;
        answer.with_context(|| format!("the debugger stub does not answer '{packet}'"))
    }

    fn expect_ok(&mut self, packet: &str) -> Result<()> {
        match self.command(packet)?.as_str() {
            "OK" => Ok(()),
            answer => bail!("the debugger stub answers '{answer}' to '{packet}'"),
        }
    }

    /// All registers as the stub lays them out.
    pub fn registers(&mut self) -> Result<Vec<u8>> {
        from_hex(&self.command("g")?)
    }

    /// Replaces all registers.
    pub fn set_registers(&mut self, image: &[u8]) -> Result<()> {
        self.expect_ok(&format!("G{}", to_hex(image)))
    }

    /// Sets register `number`.
    pub fn set_register(&mut self, number: usize, value: &[u8]) -> Result<()> {
        self.expect_ok(&format!("P{number:x}={}", to_hex(value)))
    }

    /// Reads memory at a linear address.
    pub fn read_memory(&mut self, linear: u64, bytes: usize) -> Result<Vec<u8>> {
        let mut data = Vec::with_capacity(bytes);
        while data.len() < bytes {
            let count = (bytes - data.len()).min(MEMORY_CHUNK);
            let at = linear.wrapping_add(data.len() as u64);
            let answer = self.command(&format!("m{at:x},{count:x}"))?;
            if answer.starts_with('E') {
                bail!("the debugger stub cannot read {count} bytes at {at:#x}");
            }
            data.extend(from_hex(&answer)?);
        }
        Ok(data)
    }

    /// Writes memory at a linear address.
    pub fn write_memory(&mut self, linear: u64, data: &[u8]) -> Result<()> {
        for (i, chunk) in data.chunks(MEMORY_CHUNK).enumerate() {
            let at = linear.wrapping_add((i * MEMORY_CHUNK) as u64);
            self.expect_ok(&format!("M{at:x},{:x}:{}", chunk.len(), to_hex(chunk)))?;
        }
        Ok(())
    }

    /// Stops before every instruction fetched from `linear`.
    pub fn insert_breakpoint(&mut self, linear: u64) -> Result<()> {
        self.expect_ok(&format!("Z1,{linear:x},1"))
    }

    /// Takes a breakpoint back.
    pub fn remove_breakpoint(&mut self, linear: u64) -> Result<()> {
        self.expect_ok(&format!("z1,{linear:x},1"))
    }

    /// Executes one instruction, or delivers the exception that it raises.
    pub fn step(&mut self) -> Result<Stop> {
        self.send("s")?;
        self.stopped(ANSWER_LIMIT)
    }

    /// Runs until a breakpoint is reached, `limit` at most.
    pub fn resume(&mut self, limit: Duration) -> Result<Stop> {
        self.send("c")?;
        self.stopped(limit)
    }

    fn stopped(&mut self, limit: Duration) -> Result<Stop> {
        let Some(answer) = self.receive(limit)? else {
            self.output.write_all(&[3]).context("cannot write to the debugger stub")?;
            self.output.flush()?;
            self.receive(ANSWER_LIMIT)?;
            return Ok(Stop::TimeLimit);
        };
        match answer.get(..3).map(|head| (&head[..1], u8::from_str_radix(&head[1..], 16))) {
            Some(("T" | "S", Ok(5))) => Ok(Stop::Trap),
            Some(("T" | "S", Ok(signal))) => Ok(Stop::Signal(signal)),
            _ => bail!("the debugger stub answers '{answer}' when the target should stop"),
        }
    }

    /// A command of the emulator's own monitor, and what it prints.
    pub fn monitor(&mut self, command: &str) -> Result<String> {
        self.send(&format!("qRcmd,{}", to_hex(command.as_bytes())))?;
        let mut text = String::new();
        loop {
            let answer = self.receive(ANSWER_LIMIT)?;
            let answer = answer.with_context(|| format!("no answer to the monitor's '{command}'"))?;
            match answer.strip_prefix('O') {
                Some("K") => return Ok(text),
                Some(part) => text.push_str(&String::from_utf8_lossy(&from_hex(part)?)),
                None => bail!("the debugger stub answers '{answer}' to the monitor's '{command}'"),
            }
        }
    }
}

fn to_hex(data: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    data.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte)]).collect()
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let pair = std::str::from_utf8(pair).unwrap_or_default();
            // A register whose value is not known is a row of x.
            if pair == "xx" { Ok(0) } else { u8::from_str_radix(pair, 16) }
        })
        .collect::<Result<_, _>>()
        .with_context(|| format!("the debugger stub sent '{text}' where hexadecimal digits belong"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn client(input: &str) -> (GdbClient, Sink) {
        let sink = Sink::default();
        (GdbClient::new(Cursor::new(input.as_bytes().to_vec()), sink.clone()), sink)
    }

    #[test]
    fn packets_are_framed_and_answers_unpacked() {
        let (mut gdb, sink) = client("+$0*\"1f#00");
        assert_eq!(gdb.registers().unwrap(), [0, 0, 0, 0x1f]);
        assert_eq!(*sink.0.lock().unwrap(), b"$g#67+");
    }

    #[test]
    fn stops_are_told_apart() {
        for (answer, stop) in [("$T05thread:01;#00", Stop::Trap), ("$S0b#00", Stop::Signal(11))] {
            assert_eq!(client(answer).0.step().unwrap(), stop);
        }
        assert!(client("$W00#00").0.step().is_err());
        assert!(client("").0.step().unwrap_err().to_string().contains("closed"));
    }

    #[test]
    fn a_monitor_command_collects_its_output() {
        let (mut gdb, _) = client("$O4142#00$O43#00$OK#00");
        assert_eq!(gdb.monitor("info").unwrap(), "ABC");
    }
}
