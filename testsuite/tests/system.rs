//! The system guests on rx86 and on QEMU.

use rx86_testsuite::system::{compare, guests, run};
use std::io::Write;

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
            let _ = writeln!(std::io::stderr(), "skipped: system guests against QEMU: it is not installed");
            return;
        };
        if let Some(ending) = &right.ending {
            lines.push(format!("{}: QEMU: {ending}", guest.name));
        }
        let found = compare::disagreements(&guest, &left, &right);
        lines.extend(compare::unexpected(&guest, &found));
        println!("{}: {} cases", guest.name, guest.cases.len());
    }
    let shown = lines.iter().take(200).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(lines.is_empty(), "{} lines:\n{shown}", lines.len());
}
