// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Giving back what only the start needed.

use std::fs;

/// Lets go of the pages of code that are mapped: those of the start (the kernel's types, the
/// loader, TLS) are not needed again, and what a tick needs comes back from the page cache
/// with its first use. Some 3 MB of a running agent.
pub fn release_code() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, length) in maps.lines().filter_map(code) {
        // SAFETY: the range is a mapping of code from a file, private and never written to
        // (position-independent code has no relocations in its text), so each page that is let
        // go is read from the same file when it is used again.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
}

/// Where a line's mapping is and how long, if it is code from a file that may not be written.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_whitespace();
    let (range, rights) = (fields.next()?, fields.next()?);
    let path = fields.nth(3)?;
    if rights != "r-xp" || !path.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let parse = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (parse(start)?, parse(end)?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_from_files_is_let_go() {
        let program = "7f00-9f00 r-xp 00001000 fe:00 123    /usr/bin/eco-agent";
        assert_eq!(code(program), Some((0x7f00, 0x2000)));
        for other in [
            "7f00-9f00 r--p 00001000 fe:00 123    /usr/bin/eco-agent",
            "7f00-9f00 rwxp 00001000 fe:00 123    /usr/bin/eco-agent",
            "7f00-9f00 r-xp 00000000 00:00 0      [vdso]",
            "7f00-9f00 r-xp 00000000 00:00 0",
            "9f00-7f00 r-xp 00000000 fe:00 1 /x",
            "garbage",
            "",
        ] {
            assert_eq!(code(other), None, "{other}");
        }
    }

    #[test]
    fn a_program_goes_on_without_the_pages_that_it_let_go() {
        release_code();
        assert_eq!("still here".len(), 10);
    }
}
