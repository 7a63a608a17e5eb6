// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Counts tests from what libtest prints with `--show-output`.

use std::fmt;

/// How a test says that it cannot run here.
const SKIPPED: &str = "skipped: ";

/// The count over all test programs of one run.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    skipped: Vec<Skip>,
    failures: Vec<String>,
    program: Option<Program>,
}

struct Skip {
    test: String,
    why: String,
}

/// The test program whose output is being read.
#[derive(Default)]
struct Program {
    part: Part,
    /// The test whose output is being read, until its first `skipped:`.
    test: Option<String>,
    /// Skips of tests that libtest itself counts as passed.
    skips: Vec<Skip>,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Part {
    /// `test NAME ... ok`, and with `--nocapture` what tests print.
    #[default]
    Running,
    /// What passing tests printed.
    Successes,
    /// What failing tests printed: a `skipped:` here excuses nothing.
    Failures,
}

impl Tally {
    /// Takes the next line, without its end.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(test) = failed(line) {
            self.failures.push(test.to_owned());
        }
        if is_start(line) {
            self.close_without_result();
            self.program = Some(Program::default());
            return;
        }
        let Some(program) = &mut self.program else {
            return;
        };
        if let Some(result) = line.strip_prefix("test result: ") {
            let skips = std::mem::take(&mut program.skips);
            self.program = None;
            self.add(result, skips);
        } else if let Some((test, why)) = ignored(line) {
            self.skipped.push(Skip {
                test: test.to_owned(),
                why: why.to_owned(),
            });
        } else {
            program.read(line);
        }
    }

    /// Whether the line just read is what a passing test printed: `cargo test` would not
    /// have shown it.
    pub(crate) fn is_in_successes(&self) -> bool {
        self.program
            .as_ref()
            .is_some_and(|program| program.part == Part::Successes)
    }

    /// Ends the count. A run that cargo calls failed never counts as without failures:
    /// something did not compile, or could not be started.
    pub(crate) fn finish(&mut self, succeeded: bool) {
        self.close_without_result();
        if !succeeded && self.failed == 0 {
            self.failed = 1;
        }
    }

    fn add(&mut self, result: &str, skips: Vec<Skip>) {
        self.passed += count(result, "passed").saturating_sub(skips.len());
        self.failed += count(result, "failed");
        self.skipped.extend(skips);
    }

    /// A program that started its tests and never told their result has died.
    fn close_without_result(&mut self) {
        if self.program.take().is_some() {
            self.failed += 1;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.skipped.is_empty() {
            writeln!(out, "\nskipped:")?;
        }
        for Skip { test, why } in &self.skipped {
            writeln!(out, "    {test}: {why}")?;
        }
        if !self.failures.is_empty() {
            writeln!(out, "\nfailed:")?;
        }
        for test in &self.failures {
            writeln!(out, "    {test}")?;
        }
        let (passed, failed, skipped) = (self.passed, self.failed, self.skipped.len());
        writeln!(out, "\n{passed} passed, {failed} failed, {skipped} skipped")
    }
}

impl Program {
    fn read(&mut self, line: &str) {
        match line {
            "successes:" => self.part = Part::Successes,
            "failures:" => self.part = Part::Failures,
            _ => {}
        }
        if let Some(test) = output_of(line) {
            self.test = Some(test.to_owned());
        }
        if let Some((printed_by, why)) = skip(line) {
            self.skip(printed_by, why);
        }
    }

    fn skip(&mut self, printed_by: Option<&str>, why: &str) {
        let test = match self.part {
            // Once per test, however often it says so.
            Part::Successes => self.test.take(),
            Part::Running => Some(printed_by.unwrap_or("a test").to_owned()),
            Part::Failures => None,
        };
        if let Some(test) = test {
            self.skips.push(Skip {
                test,
                why: why.to_owned(),
            });
        }
    }
}

/// `running 3 tests`
fn is_start(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("running ") else {
        return false;
    };
    let number = rest
        .strip_suffix(" tests")
        .or_else(|| rest.strip_suffix(" test"));
    number.is_some_and(|number| number.parse::<usize>().is_ok())
}

/// `test NAME ... FAILED`
fn failed(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// `test NAME ... ignored` or `test NAME ... ignored, why`
fn ignored(line: &str) -> Option<(&str, &str)> {
    let (test, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let why = outcome.strip_prefix("ignored")?;
    Some((test, why.strip_prefix(", ").unwrap_or("ignored")))
}

/// `---- NAME stdout ----`
fn output_of(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// `skipped: why`, or with `--nocapture` in one thread `test NAME ... skipped: why`
fn skip(line: &str) -> Option<(Option<&str>, &str)> {
    if let Some(why) = line.strip_prefix(SKIPPED) {
        return Some((None, why));
    }
    let (test, printed) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some((Some(test), printed.strip_prefix(SKIPPED)?))
}

/// The number before `what` in `ok. 3 passed; 0 failed; 1 ignored; …`
fn count(result: &str, what: &str) -> usize {
    let mut words = result.split([' ', ';']).filter(|word| !word.is_empty());
    let mut before = "";
    words
        .find_map(|word| {
            let number = std::mem::replace(&mut before, word);
            (word == what).then_some(number)
        })
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tallied(output: &str, succeeded: bool) -> Tally {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read(line));
        tally.finish(succeeded);
        tally
    }

    fn last_line(tally: &Tally) -> String {
        tally.to_string().lines().last().unwrap().to_owned()
    }

    #[test]
    fn programs_add_up() {
        let output = "\nrunning 2 tests\ntest a ... ok\ntest b ... ok\n\n\
            test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\n\
            running 1 test\ntest c ... ok\n\n\
            test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(
            last_line(&tallied(output, true)),
            "3 passed, 0 failed, 0 skipped"
        );
    }

    #[test]
    fn a_skipped_test_never_counts_as_passed() {
        let output = "running 2 tests\ntest a ... ok\ntest b ... ok\n\nsuccesses:\n\n\
            ---- b stdout ----\nlooked for it\nskipped: no powercap here\nskipped: again\n\n\n\
            successes:\n    a\n    b\n\n\
            test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let tally = tallied(output, true);
        assert_eq!(last_line(&tally), "1 passed, 0 failed, 1 skipped");
        assert!(tally.to_string().contains("    b: no powercap here\n"));
    }

    #[test]
    fn a_failing_test_is_not_excused_by_saying_skipped() {
        let output = "running 1 test\ntest a ... FAILED\n\nsuccesses:\n\nsuccesses:\n\nfailures:\n\n\
            ---- a stdout ----\nskipped: so it says\nthread 'a' panicked\n\nfailures:\n    a\n\n\
            test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let tally = tallied(output, false);
        assert_eq!(last_line(&tally), "0 passed, 1 failed, 0 skipped");
        assert!(tally.to_string().contains("failed:\n    a\n"));
    }

    #[test]
    fn only_what_passing_tests_printed_is_not_shown() {
        let output = "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\nsuccesses:\n\n\
            ---- a stdout ----\nchatter\n\nsuccesses:\n    a\n\nfailures:\n\n\
            ---- b stdout ----\npanicked\n\nfailures:\n    b\n\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let mut tally = Tally::default();
        let mut hidden = Vec::new();
        for line in output.lines() {
            tally.read(line);
            if tally.is_in_successes() && !line.is_empty() {
                hidden.push(line);
            }
        }
        assert_eq!(
            hidden,
            [
                "successes:",
                "---- a stdout ----",
                "chatter",
                "successes:",
                "    a"
            ]
        );
    }

    #[test]
    fn an_ignored_test_is_skipped_with_its_reason() {
        let output = "running 2 tests\ntest a ... ignored\ntest b ... ignored, slow\n\n\
            test result: ok. 0 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out\n";
        let tally = tallied(output, true);
        assert_eq!(last_line(&tally), "0 passed, 0 failed, 2 skipped");
        assert!(tally.to_string().contains("    b: slow\n"));
    }

    #[test]
    fn uncaptured_output_is_understood_too() {
        let output = "running 2 tests\ntest a ... skipped: no BTF\nok\nskipped: no cgroup\n\
            test b ... ok\n\nsuccesses:\n\nsuccesses:\n    a\n    b\n\n\
            test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(
            last_line(&tallied(output, true)),
            "0 passed, 0 failed, 2 skipped"
        );
    }

    #[test]
    fn a_program_that_dies_midway_has_failed() {
        let output = "running 2 tests\ntest a ... ok\nrunning 1 test\ntest c ... ok\n\n\
            test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(
            last_line(&tallied(output, false)),
            "1 passed, 1 failed, 0 skipped"
        );
        assert_eq!(
            last_line(&tallied("running 1 test\n", false)),
            "0 passed, 1 failed, 0 skipped"
        );
    }

    #[test]
    fn what_does_not_compile_has_failed() {
        assert_eq!(
            last_line(&tallied("", false)),
            "0 passed, 1 failed, 0 skipped"
        );
    }

    #[test]
    fn a_tests_own_words_are_not_taken_for_libtests() {
        let output = "running 1 test\ntest a ... ok\n\nsuccesses:\n\n---- a stdout ----\n\
            running late tests\nnot skipped: all fine\n\nsuccesses:\n    a\n\n\
            test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(
            last_line(&tallied(output, true)),
            "1 passed, 0 failed, 0 skipped"
        );
    }
}
