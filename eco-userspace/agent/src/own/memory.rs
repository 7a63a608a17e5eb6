// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Giving back what only the start needed.

use std::fs;

/// Lets go of the pages of code and constants that are mapped: those of the start (the kernel's
/// types, the loader, TLS, the history's schema) are not needed again, and what a tick needs
/// comes back from the page cache with its first use. Some 3 MB of a running agent.
pub fn release_code() {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (start, length) in unwritten(&maps) {
        // SAFETY: the range is a mapping of a file, private, not writable, and without a page of
        // its own (none was relocated), so each page that is let go is read from the same file
        // when it is used again.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
}

/// Where mappings of files are, and how long, that may not be written and never were.
fn unwritten(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in smaps.lines() {
        if let Some(at) = range(line) {
            mapping = is_read_only(line).then_some(at);
        } else if let Some(own) = line.strip_prefix("Anonymous:") {
            found.extend(mapping.take().filter(|_| own.trim() == "0 kB"));
        }
    }
    found
}

/// The range of a mapping's first line; `None` of the lines that tell its sizes.
fn range(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    let parse = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (parse(start)?, parse(end)?);
    Some((start, end.checked_sub(start)?))
}

fn is_read_only(line: &str) -> bool {
    let mut fields = line.split_whitespace().skip(1);
    let is_read_only = matches!(fields.next(), Some("r-xp" | "r--p"));
    is_read_only && fields.nth(3).is_some_and(|path| path.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_its_file_is_let_go() {
        let sizes = |own: u32| format!("Size:  8 kB\nAnonymous:  {own} kB\nTHPeligible: 0\n");
        for rights in ["r-xp", "r--p"] {
            let file = format!("7f00-9f00 {rights} 00001000 fe:00 123    /usr/bin/eco-agent\n");
            let code = format!("{file}{}", sizes(0));
            assert_eq!(unwritten(&code), [(0x7f00, 0x2000)]);
            let relocated = format!("{file}{}", sizes(4));
            assert_eq!(unwritten(&relocated), []);
        }
        for other in [
            "7f00-9f00 rw-p 00001000 fe:00 123    /usr/bin/eco-agent",
            "7f00-9f00 r--s 00001000 fe:00 123    /usr/bin/eco-agent",
            "7f00-9f00 r-xp 00000000 00:00 0      [vdso]",
            "7f00-9f00 r-xp 00000000 00:00 0",
            "9f00-7f00 r-xp 00000000 fe:00 1 /x",
            "garbage",
            "",
        ] {
            assert_eq!(unwritten(&format!("{other}\n{}", sizes(0))), [], "{other}");
        }
    }

    #[test]
    fn a_program_goes_on_without_the_pages_that_it_let_go() {
        let own = fs::read_to_string("/proc/self/smaps").unwrap();
        assert!(!unwritten(&own).is_empty());
        release_code();
        assert_eq!("still here".len(), 10);
    }
}
