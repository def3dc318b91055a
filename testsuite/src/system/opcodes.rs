//! Machine code that the cases of several guests share.

/// Instructions that real-address and virtual-8086 mode do not have (SDM vol. 3, 20.1.3 and 20.2.1).
pub const PROTECTED_ONLY: [(&str, &[u8]); 11] = [
    ("SLDT", &[0x0f, 0x00, 0xc0]),
    ("STR", &[0x0f, 0x00, 0xc8]),
    ("LLDT", &[0x0f, 0x00, 0xd0]),
    ("LTR", &[0x0f, 0x00, 0xd8]),
    ("VERR", &[0x0f, 0x00, 0xe0]),
    ("VERW", &[0x0f, 0x00, 0xe8]),
    ("LAR", &[0x0f, 0x02, 0xc0]),
    ("LSL", &[0x0f, 0x03, 0xc0]),
    ("ARPL", &[0x63, 0xc0]),
    ("SYSEXIT", &[0x0f, 0x35]),
    ("MOV CS", &[0x8e, 0xc8]),
];

/// Instructions that CR0.EM, TS and MP make raise #NM or #UD: of the x87, its WAIT, and of MMX (SDM vol. 3, 2.5).
pub const COPROCESSOR: [(&str, &[u8]); 3] =
    [("FNOP", &[0xd9, 0xd0]), ("FWAIT", &[0x9b]), ("MOVQ", &[0x0f, 0x6f, 0xc1])];
