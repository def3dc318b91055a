//! The system guests on rx86, and on QEMU and KVM.

use rx86_testsuite::system::guest::SystemGuest;
use rx86_testsuite::system::{compare, guests, run};
use std::io::Write;

fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: system guests against {what}");
}

fn check(lines: &[String]) {
    let shown = lines.iter().take(200).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(lines.is_empty(), "{} lines:\n{shown}", lines.len());
}

#[test]
fn rx86_and_qemu_agree_about_the_system_level() {
    let mut lines = Vec::new();
    for guest in guests() {
        let left = run::on_interpreter(&guest);
        if let Some(ending) = &left.ending {
            lines.push(format!("{}: rx86 ended with {ending}", guest.name));
        }
        lines.extend(compare::unmet(&guest, &left));
        let Some(right) = run::on_qemu(&guest).expect("QEMU works") else {
            return skipped("QEMU: it is not installed");
        };
        if let Some(ending) = &right.ending {
            lines.push(format!("{}: QEMU: {ending}", guest.name));
        }
        let found = compare::disagreements(&guest, &left, &right);
        lines.extend(compare::unexpected(&guest, &found));
        println!("{}: {} cases", guest.name, guest.cases.len());
    }
    check(&lines);
}

/// What the host's processor left of a guest, through KVM; none with a line if there is no KVM, or if it cannot run the guest.
fn on_kvm(guest: &SystemGuest) -> Option<run::Left> {
    match run::on_kvm(guest) {
        Err(error) => skipped(&format!("KVM: {error}")),
        Ok(run::Left { ending: Some(ending), .. }) => {
            skipped(&format!("KVM, {}: it does not come to the end: {ending}", guest.name));
        }
        Ok(left) => return Some(left),
    }
    None
}

/// Processors differ where the SDM allows it, so this host's differences are for readers.
#[test]
fn what_kvm_says_about_the_system_level_is_shown() {
    for guest in guests() {
        let left = run::on_interpreter(&guest);
        let Some(right) = on_kvm(&guest) else { continue };
        let found = compare::disagreements(&guest, &left, &right);
        println!("{} on KVM: {} cases, {} differences", guest.name, guest.cases.len(), found.len());
        for it in &found {
            println!("  {}: {} {:#x}/{:#x}", it.case, it.field, it.left, it.right);
        }
    }
}
