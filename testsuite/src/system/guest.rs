//! A system guest: an image of low memory that starts in real-address mode, and its cases.
//!
//! Every case is a piece of code in a slot of its own. It ends with an exception, or with `INT 0x30`. The handlers write a
//! record of what they find (the registers, the frame on the stack, CR2, DR6 ...) and go on with the next slot. After
//! the last case the processor halts.

use super::layout::*;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// The vector by which a case without an exception ends.
pub const DONE: i32 = 0x30;
/// Vectors with handlers.
pub const VECTORS: u32 = 0x34;

/// What `assemble` turns into bytes.
pub type Code<'a> = &'a dyn Fn(&mut CodeAssembler) -> Result<(), IcedError>;

/// The code that `body` emits, for `address`.
///
/// # Panics
/// If it cannot be assembled.
pub fn assemble(bits: u32, address: u32, body: Code<'_>) -> Vec<u8> {
    let mut a = CodeAssembler::new(bits).expect("16, 32 or 64 bits");
    body(&mut a).unwrap_or_else(|error| panic!("code at {address:#x}: {error}"));
    a.assemble(address.into()).unwrap_or_else(|error| panic!("code at {address:#x}: {error}"))
}

/// One guest.
pub struct SystemGuest {
    /// Its name.
    pub name: &'static str,
    /// Memory from address zero.
    pub image: Vec<u8>,
    /// The cases' names, in their order.
    pub cases: Vec<String>,
    /// What the SDM says that a record holds, whatever QEMU does: the case's number, a field's name, and its value.
    pub expected: Vec<(usize, &'static str, u128)>,
    /// The same of the low halves of fields.
    pub expected_halves: Vec<(usize, &'static str, u32)>,
    /// Where the records lie.
    pub log: u32,
    /// The names of a record's fields.
    pub fields: Vec<String>,
    /// Bytes of a field.
    pub field_bytes: usize,
    /// The linear address at which the guest halts.
    pub end: u32,
    /// Whether it needs a local APIC.
    pub local_apic: bool,
    /// Where case slots begin.
    cases_at: u32,
    /// Bits of the cases' code.
    bits: u32,
}

impl SystemGuest {
    /// A guest without cases, whose slots begin at `cases_at`. `bits` is the size of their code.
    pub fn new(name: &'static str, bits: u32, cases_at: u32, log: u32) -> Self {
        Self {
            name,
            image: vec![0; 0xa_0000],
            cases: Vec::new(),
            expected: Vec::new(),
            expected_halves: Vec::new(),
            log,
            fields: Vec::new(),
            field_bytes: if bits == 64 { 8 } else { 4 },
            end: cases_at,
            local_apic: false,
            cases_at,
            bits,
        }
    }

    /// Puts bytes into the image.
    pub fn put(&mut self, at: u32, bytes: &[u8]) {
        let at = at as usize;
        self.image[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Puts a descriptor into the GDT.
    pub fn put_descriptor(&mut self, selector: u16, image: u64) {
        self.put(GDT + u32::from(selector), &image.to_le_bytes());
    }

    /// Puts the code that `body` emits at `at`.
    pub fn put_code(&mut self, bits: u32, at: u32, body: Code<'_>) {
        let bytes = assemble(bits, at, body);
        self.put(at, &bytes);
    }

    /// Where the next case's code at CPL 3, or of another mode, is put.
    pub fn other_code(&self) -> u32 {
        OTHER_CODE + self.cases.len() as u32 * CASE_BYTES
    }

    /// The address of the next case's slot.
    pub fn slot(&self) -> u32 {
        self.cases_at + self.cases.len() as u32 * CASE_BYTES
    }

    /// Adds a case. Behind what `body` emits it ends with `INT 0x30`.
    pub fn case(&mut self, name: impl Into<String>, body: Code<'_>) {
        let (at, bits) = (self.slot(), self.bits);
        let next = at + CASE_BYTES;
        self.put_case(name.into(), &|a| {
            if bits == 16 {
                // Each slot is a segment.
                a.mov(word_ptr(RESUME), 0)?;
                a.mov(word_ptr(RESUME + 2), (next >> 4) as i32)?;
            } else {
                a.mov(dword_ptr(u64::from(RESUME)), next as i32)?;
                a.mov(word_ptr(u64::from(RESUME + 4)), i32::from(CODE0))?;
            }
            body(a)?;
            a.int(DONE)
        });
    }

    /// Says what the SDM wants of the last case: the record's `field` to be `value`.
    pub fn expect(&mut self, field: &'static str, value: u128) {
        self.expected.push((self.cases.len() - 1, field, value));
    }

    fn put_case(&mut self, name: String, body: Code<'_>) {
        let at = self.slot();
        let bytes = assemble(self.bits, if self.bits == 16 { 0 } else { at }, body);
        assert!(bytes.len() <= CASE_BYTES as usize, "{}: {name} has {} bytes", self.name, bytes.len());
        self.put(at, &bytes);
        self.cases.push(name);
        self.end = self.slot();
        // CLI and HLT, until the next case takes the slot.
        self.put(self.end, &[0xfa, 0xf4]);
        self.end += 1;
    }

    /// Adds a case whose code at CPL 3, with flat segments and `flags`, is what `body` emits; `before` runs at CPL 0.
    pub fn user_case(&mut self, name: impl Into<String>, flags: i32, before: Code<'_>, body: Code<'_>) {
        let (at, bits) = (self.other_code(), self.bits);
        let bytes = assemble(bits, at, &|a| {
            body(a)?;
            a.int(DONE)
        });
        assert!(bytes.len() <= CASE_BYTES as usize);
        self.put(at, &bytes);
        self.case(name, &|a| {
            before(a)?;
            a.push(i32::from(DATA3 | 3))?;
            a.push(STACK3 as i32)?;
            a.push(flags | 2)?;
            a.push(i32::from(CODE3 | 3))?;
            a.push(at as i32)?;
            if bits == 64 { a.iretq() } else { a.iretd() }
        });
    }

    /// Bytes of a record.
    pub fn record_bytes(&self) -> usize {
        self.fields.len() * self.field_bytes
    }
}

/// Writes a descriptor or a gate over the GDT's slot `selector`, from 32-bit or 64-bit code.
pub fn set_descriptor(a: &mut CodeAssembler, selector: u16, image: u64) -> Result<(), IcedError> {
    set_qword(a, GDT + u32::from(selector & !7), image)
}

/// Writes eight bytes at an address, from 32-bit or 64-bit code.
pub fn set_qword(a: &mut CodeAssembler, at: u32, image: u64) -> Result<(), IcedError> {
    a.mov(dword_ptr(u64::from(at)), image as u32 as i32)?;
    a.mov(dword_ptr(u64::from(at + 4)), (image >> 32) as u32 as i32)
}
