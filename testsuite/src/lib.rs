//! rx86 testsuite.
