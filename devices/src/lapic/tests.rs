//! The local APIC's cases.
