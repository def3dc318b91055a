//! Bits of control registers, RFLAGS, EFER and debug registers (SDM vol. 3, 2.3 to 2.5 and 17.2).

macro_rules! bits {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        $($(#[$doc])* pub const $name: u64 = 1 << $bit;)*
    };
}

bits! {
    /// Carry.
    RFLAGS_CF = 0;
    /// Always one.
    RFLAGS_FIXED = 1;
    /// Parity.
    RFLAGS_PF = 2;
    /// Auxiliary carry.
    RFLAGS_AF = 4;
    /// Zero.
    RFLAGS_ZF = 6;
    /// Sign.
    RFLAGS_SF = 7;
    /// Trap (single step).
    RFLAGS_TF = 8;
    /// Interrupt enable.
    RFLAGS_IF = 9;
    /// Direction.
    RFLAGS_DF = 10;
    /// Overflow.
    RFLAGS_OF = 11;
    /// Nested task.
    RFLAGS_NT = 14;
    /// Resume.
    RFLAGS_RF = 16;
    /// Virtual-8086 mode.
    RFLAGS_VM = 17;
    /// Alignment check, access control.
    RFLAGS_AC = 18;
    /// Virtual interrupt flag.
    RFLAGS_VIF = 19;
    /// Virtual interrupt pending.
    RFLAGS_VIP = 20;
    /// Identification.
    RFLAGS_ID = 21;

    /// Protection enable.
    CR0_PE = 0;
    /// Monitor coprocessor.
    CR0_MP = 1;
    /// Emulation.
    CR0_EM = 2;
    /// Task switched.
    CR0_TS = 3;
    /// Extension type.
    CR0_ET = 4;
    /// Numeric error.
    CR0_NE = 5;
    /// Write protect.
    CR0_WP = 16;
    /// Alignment mask.
    CR0_AM = 18;
    /// Not write-through.
    CR0_NW = 29;
    /// Cache disable.
    CR0_CD = 30;
    /// Paging.
    CR0_PG = 31;

    /// Virtual-8086 mode extensions.
    CR4_VME = 0;
    /// Protected-mode virtual interrupts.
    CR4_PVI = 1;
    /// Time stamp disable.
    CR4_TSD = 2;
    /// Debugging extensions.
    CR4_DE = 3;
    /// Page size extensions.
    CR4_PSE = 4;
    /// Physical address extension.
    CR4_PAE = 5;
    /// Machine-check enable.
    CR4_MCE = 6;
    /// Page global enable.
    CR4_PGE = 7;
    /// Performance-monitoring counter enable.
    CR4_PCE = 8;
    /// FXSAVE and SSE support by the operating system.
    CR4_OSFXSR = 9;
    /// Unmasked SIMD exceptions support.
    CR4_OSXMMEXCPT = 10;
    /// User-mode instruction prevention.
    CR4_UMIP = 11;
    /// 57-bit linear addresses.
    CR4_LA57 = 12;
    /// FSGSBASE instructions.
    CR4_FSGSBASE = 16;
    /// Process-context identifiers.
    CR4_PCIDE = 17;
    /// XSAVE and extended states.
    CR4_OSXSAVE = 18;
    /// Supervisor-mode execution prevention.
    CR4_SMEP = 20;
    /// Supervisor-mode access prevention.
    CR4_SMAP = 21;
    /// Protection keys for user pages.
    CR4_PKE = 22;

    /// System-call extensions.
    EFER_SCE = 0;
    /// IA-32e mode enable.
    EFER_LME = 8;
    /// IA-32e mode active.
    EFER_LMA = 10;
    /// Execute-disable enable.
    EFER_NXE = 11;

    /// Debug register access detected.
    DR6_BD = 13;
    /// Single step.
    DR6_BS = 14;
    /// Task switch.
    DR6_BT = 15;
    /// General detect enable.
    DR7_GD = 13;
}

/// The six arithmetic status flags.
pub const RFLAGS_ARITH: u64 = RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF;
/// Every flag that there is; the other bits of RFLAGS are fixed.
pub const RFLAGS_DEFINED: u64 = 0x3f_7fd5;
/// The I/O privilege level field.
pub const RFLAGS_IOPL: u64 = 3 << 12;
/// DR6 bits that always read one.
pub const DR6_FIXED: u64 = 0xffff_0ff0;
