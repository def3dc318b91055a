//! The list of processor features: where CPUID tells of each one (SDM vol. 2, CPUID), and which instructions need it.

use iced_x86::CpuidFeature;

/// The register of a CPUID leaf that holds a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuidRegister {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

/// One row of the list.
#[derive(Clone, Copy, Debug)]
pub struct FeatureRow {
    /// The feature.
    pub feature: Feature,
    /// Its name in this list.
    pub own_name: &'static str,
    /// CPUID's input EAX.
    pub leaf: u32,
    /// CPUID's input ECX, zero for a leaf without subleaves.
    pub subleaf: u32,
    /// The register that holds the bit.
    pub register: CpuidRegister,
    /// The bit's number.
    pub bit: u32,
    /// The decoder's names for the groups of instructions that exist with this feature only.
    pub gates: &'static [CpuidFeature],
}

macro_rules! features {
    ($($(#[$doc:meta])* $name:ident ($leaf:literal, $subleaf:literal, $register:ident, $bit:literal) [$($gate:ident)*];)*) => {
        /// A feature that a processor may have.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Feature { $($(#[$doc])* $name,)* }

        /// All features, in the order of `Feature`.
        pub const FEATURES: &[FeatureRow] = &[$(FeatureRow {
            feature: Feature::$name,
            own_name: stringify!($name),
            leaf: $leaf,
            subleaf: $subleaf,
            register: CpuidRegister::$register,
            bit: $bit,
            gates: &[$(CpuidFeature::$gate),*],
        },)*];
    };
}

features! {
    /// x87 FPU.
    Fpu (1, 0, Edx, 0) [FPU FPU287 FPU387];
    /// Virtual-8086 mode extensions.
    Vme (1, 0, Edx, 1) [];
    /// Debugging extensions: I/O breakpoints, CR4.DE.
    De (1, 0, Edx, 2) [];
    /// 4-MiB pages.
    Pse (1, 0, Edx, 3) [];
    /// RDTSC, CR4.TSD.
    Tsc (1, 0, Edx, 4) [TSC];
    /// RDMSR and WRMSR.
    Msr (1, 0, Edx, 5) [MSR];
    /// Physical address extension.
    Pae (1, 0, Edx, 6) [];
    /// Machine-check exception, CR4.MCE.
    Mce (1, 0, Edx, 7) [];
    /// CMPXCHG8B.
    Cx8 (1, 0, Edx, 8) [CX8];
    /// A local APIC. CPUID shows it only while IA32_APIC_BASE enables it.
    Apic (1, 0, Edx, 9) [];
    /// SYSENTER and SYSEXIT.
    Sep (1, 0, Edx, 11) [SEP];
    /// Memory type range registers.
    Mtrr (1, 0, Edx, 12) [];
    /// Global pages.
    Pge (1, 0, Edx, 13) [];
    /// Machine-check architecture.
    Mca (1, 0, Edx, 14) [];
    /// CMOVcc, FCMOVcc and FCOMI.
    Cmov (1, 0, Edx, 15) [CMOV];
    /// Page attribute table.
    Pat (1, 0, Edx, 16) [];
    /// 4-MiB pages above 4 GiB.
    Pse36 (1, 0, Edx, 17) [];
    /// CLFLUSH.
    Clfsh (1, 0, Edx, 19) [CLFSH];
    /// MMX.
    Mmx (1, 0, Edx, 23) [MMX];
    /// FXSAVE and FXRSTOR.
    Fxsr (1, 0, Edx, 24) [FXSR];
    /// SSE.
    Sse (1, 0, Edx, 25) [SSE];
    /// SSE2.
    Sse2 (1, 0, Edx, 26) [SSE2];
    /// The caches snoop their own stores, so that self-modifying code needs no flush.
    SelfSnoop (1, 0, Edx, 27) [];

    /// SSE3.
    Sse3 (1, 0, Ecx, 0) [SSE3];
    /// PCLMULQDQ.
    Pclmulqdq (1, 0, Ecx, 1) [PCLMULQDQ];
    /// MONITOR and MWAIT.
    Monitor (1, 0, Ecx, 3) [MONITOR];
    /// SSSE3.
    Ssse3 (1, 0, Ecx, 9) [SSSE3];
    /// FMA.
    Fma (1, 0, Ecx, 12) [FMA];
    /// CMPXCHG16B.
    Cmpxchg16b (1, 0, Ecx, 13) [CMPXCHG16B];
    /// Process-context identifiers.
    Pcid (1, 0, Ecx, 17) [];
    /// SSE4.1.
    Sse41 (1, 0, Ecx, 19) [SSE4_1];
    /// SSE4.2.
    Sse42 (1, 0, Ecx, 20) [SSE4_2];
    /// x2APIC mode.
    X2apic (1, 0, Ecx, 21) [];
    /// MOVBE.
    Movbe (1, 0, Ecx, 22) [MOVBE];
    /// POPCNT.
    Popcnt (1, 0, Ecx, 23) [POPCNT];
    /// The local APIC timer's TSC-deadline mode.
    TscDeadline (1, 0, Ecx, 24) [];
    /// AES.
    Aes (1, 0, Ecx, 25) [AES];
    /// XSAVE, XGETBV and their kin.
    Xsave (1, 0, Ecx, 26) [XSAVE];
    /// AVX.
    Avx (1, 0, Ecx, 28) [AVX];
    /// F16C: conversions of half precision.
    F16c (1, 0, Ecx, 29) [F16C];
    /// RDRAND.
    Rdrand (1, 0, Ecx, 30) [RDRAND];
    /// A hypervisor is below, and the leaves from 0x40000000 describe it.
    Hypervisor (1, 0, Ecx, 31) [];

    /// The local APIC timer runs in every idle state.
    Arat (6, 0, Eax, 2) [];

    /// RDFSBASE and its kin.
    Fsgsbase (7, 0, Ebx, 0) [FSGSBASE];
    /// IA32_TSC_ADJUST.
    TscAdjust (7, 0, Ebx, 1) [];
    /// BMI1.
    Bmi1 (7, 0, Ebx, 3) [BMI1];
    /// AVX2.
    Avx2 (7, 0, Ebx, 5) [AVX2];
    /// Supervisor-mode execution prevention.
    Smep (7, 0, Ebx, 7) [];
    /// BMI2.
    Bmi2 (7, 0, Ebx, 8) [BMI2];
    /// Enhanced REP MOVSB and STOSB.
    Erms (7, 0, Ebx, 9) [];
    /// INVPCID.
    Invpcid (7, 0, Ebx, 10) [INVPCID];
    /// RDSEED.
    Rdseed (7, 0, Ebx, 18) [RDSEED];
    /// ADCX and ADOX.
    Adx (7, 0, Ebx, 19) [ADX];
    /// Supervisor-mode access prevention, CLAC and STAC.
    Smap (7, 0, Ebx, 20) [SMAP];
    /// CLFLUSHOPT.
    Clflushopt (7, 0, Ebx, 23) [CLFLUSHOPT];
    /// CLWB.
    Clwb (7, 0, Ebx, 24) [CLWB];
    /// SHA-1 and SHA-256.
    Sha (7, 0, Ebx, 29) [SHA];
    /// PREFETCHWT1, a hint in the space of NOPs.
    Prefetchwt1 (7, 0, Ecx, 0) [];
    /// User-mode instruction prevention.
    Umip (7, 0, Ecx, 2) [];
    /// Protection keys for user pages.
    Pku (7, 0, Ecx, 3) [PKU];
    /// UMONITOR, UMWAIT, TPAUSE and IA32_UMWAIT_CONTROL.
    Waitpkg (7, 0, Ecx, 5) [WAITPKG];
    /// Arithmetic in GF(2^8).
    Gfni (7, 0, Ecx, 8) [GFNI];
    /// AES with YMM registers.
    Vaes (7, 0, Ecx, 9) [VAES];
    /// PCLMULQDQ with YMM registers.
    Vpclmulqdq (7, 0, Ecx, 10) [VPCLMULQDQ];
    /// 57-bit linear addresses, 5-level paging.
    La57 (7, 0, Ecx, 16) [];
    /// RDPID.
    Rdpid (7, 0, Ecx, 22) [RDPID];
    /// CLDEMOTE, a hint in the space of NOPs.
    Cldemote (7, 0, Ecx, 25) [];
    /// MOVDIRI.
    Movdiri (7, 0, Ecx, 27) [MOVDIRI];
    /// MOVDIR64B.
    Movdir64b (7, 0, Ecx, 28) [MOVDIR64B];
    /// Fast short REP MOVSB.
    Fsrm (7, 0, Edx, 4) [];
    /// SERIALIZE.
    Serialize (7, 0, Edx, 14) [SERIALIZE];
    /// IA32_ARCH_CAPABILITIES.
    ArchCapabilities (7, 0, Edx, 29) [];

    /// AVX-VNNI.
    AvxVnni (7, 1, Eax, 4) [AVX_VNNI];

    /// XSAVEOPT.
    Xsaveopt (0xd, 1, Eax, 0) [XSAVEOPT];
    /// XSAVEC and the compacted form of XRSTOR.
    Xsavec (0xd, 1, Eax, 1) [XSAVEC];
    /// XGETBV with ECX = 1.
    Xgetbv1 (0xd, 1, Eax, 2) [];
    /// XSAVES, XRSTORS and IA32_XSS.
    Xsaves (0xd, 1, Eax, 3) [XSAVES];

    /// LAHF and SAHF in 64-bit mode.
    Lahf64 (0x8000_0001, 0, Ecx, 0) [];
    /// LZCNT.
    Lzcnt (0x8000_0001, 0, Ecx, 5) [LZCNT];
    /// PREFETCHW.
    Prefetchw (0x8000_0001, 0, Ecx, 8) [PREFETCHW];
    /// SYSCALL and SYSRET in 64-bit mode.
    Syscall (0x8000_0001, 0, Edx, 11) [SYSCALL];
    /// Execute disable.
    Nx (0x8000_0001, 0, Edx, 20) [];
    /// 1-GiB pages.
    Page1gb (0x8000_0001, 0, Edx, 26) [];
    /// RDTSCP and IA32_TSC_AUX.
    Rdtscp (0x8000_0001, 0, Edx, 27) [RDTSCP];
    /// Intel 64.
    Lm (0x8000_0001, 0, Edx, 29) [X64];
    /// The time stamp counter runs at a constant rate in every state.
    InvariantTsc (0x8000_0007, 0, Edx, 8) [];
}
