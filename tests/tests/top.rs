// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco top` on a terminal: what it shows, what its keys and a mouse do, and that it leaves the
//! terminal as it was, however it ends.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use eco_tests::{
    agent::{Agent, Setup},
    needs, programs,
    terminal::Terminal,
    wait,
    workload::{Running, Workload},
};

/// `eco top` of an agent, in a place where nothing else decides how it looks.
fn top(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(programs::eco());
    command
        .arg("--socket")
        .arg(socket)
        .arg("top")
        .args(arguments)
        .env("TERM", "xterm-256color")
        .env("LC_ALL", "C.UTF-8")
        .env_remove("NO_COLOR")
        .env_remove("ECO_SOCKET");
    command
}

/// A view of 80 by 24, once it shows data.
fn shown(socket: &Path, arguments: &[&str]) -> Terminal {
    let mut terminal = Terminal::start(top(socket, arguments), 80, 24).unwrap();
    terminal.until_shown(" live").unwrap();
    terminal
}

/// What is busy while a test looks: more CPU time than any test takes.
fn busy() -> Running {
    Workload::new("burn 600").unwrap().start().unwrap()
}

/// A line of the list that begins with this process's number.
fn line_of(lines: &[String], pid: u32) -> Option<usize> {
    let pid = pid.to_string();
    let is_its = |line: &String| line.split_whitespace().next() == Some(&*pid);
    lines.iter().position(is_its)
}

/// The line that is marked: the headings are shown the same way, and stand above.
fn marked(terminal: &mut Terminal) -> Option<usize> {
    let screen = terminal.screen();
    let (rows, _) = screen.size();
    let rows = 0..rows.get() - 1;
    let is_reversed = |row: &u16| screen.cell(*row, 0).is_some_and(vt100::Cell::inverse);
    rows.filter(is_reversed).nth(1).map(usize::from)
}

#[test]
fn the_screen_shows_power_and_who_uses_it_and_obeys_its_keys() {
    needs!(Programs);
    let agent = Agent::start(Setup::default()).unwrap();
    let busy = busy();
    let mut terminal = shown(&agent.socket(), &["--interval", "0.2"]);
    assert!(terminal.screen().alternate_screen() && terminal.screen().hide_cursor());
    terminal
        .until("the busy process and the power", |lines| {
            lines[2].starts_with(" power ")
                && lines[2].contains(" W ")
                && line_of(lines, busy.pid()).is_some_and(|at| lines[at].ends_with("workload"))
        })
        .unwrap();

    // Another order, and its mark in the heading.
    terminal.press("N").unwrap();
    terminal.until_shown("PID▲").unwrap();
    terminal.press("W").unwrap();
    terminal.until_shown(" W▼").unwrap();
    terminal.press(">").unwrap();
    terminal.until_shown("Sort by").unwrap();
    terminal.press("q").unwrap();

    terminal.press("/").unwrap();
    terminal.press(&busy.pid().to_string()).unwrap();
    terminal.press("\r").unwrap();
    wait::until("the process that was searched is marked", || {
        let line = line_of(&terminal.lines(), busy.pid());
        line.is_some() && line == marked(&mut terminal)
    })
    .unwrap();
    // All about it, and back.
    terminal.press("\r").unwrap();
    terminal
        .until_shown(&format!("process  {}", busy.pid()))
        .unwrap();
    terminal.press("\x7f").unwrap();

    terminal.press("h").unwrap();
    terminal.until_shown("any key goes back").unwrap();
    terminal.press("x").unwrap();
    let closed = |lines: &[String]| !lines.iter().any(|line| line.contains("any key goes"));
    terminal.until("the help is closed", closed).unwrap();

    terminal.press("q").unwrap();
    assert!(terminal.until_ended().unwrap().success());
    assert!(terminal.is_as_before().unwrap());
}

#[test]
fn one_goes_into_a_user_and_back_and_the_user_has_tasks() {
    needs!(Programs);
    let agent = Agent::start(Setup::default()).unwrap();
    let busy = busy();
    let mut terminal = shown(&agent.socket(), &["--kind", "user", "--interval", "0.2"]);
    // SAFETY: takes nothing and returns a number.
    let uid = unsafe { libc::geteuid() };
    let name = if uid == 0 {
        "root".to_owned()
    } else {
        uid.to_string()
    };
    if uid == 0 {
        terminal
            .until("root has as many tasks as this test, at least", |lines| {
                let mut fields = lines.iter().map(|line| line.split_whitespace());
                fields.any(|mut line| {
                    let tasks = line.next().and_then(|first| first.parse::<u64>().ok());
                    line.next_back() == Some("root") && tasks.is_some_and(|tasks| tasks >= 2)
                })
            })
            .unwrap();
        terminal.press(&format!("/{name}\r\r")).unwrap();
        terminal.until_shown("users › root › processes").unwrap();
        let inside = |lines: &[String]| line_of(lines, busy.pid()).is_some();
        terminal.until("its processes", inside).unwrap();
        terminal.press("\x7f").unwrap();
        terminal.until_shown(" users · ").unwrap();
    }
    terminal.press("\t").unwrap();
    terminal.until_shown(" virtual machines · ").unwrap();
}

#[test]
fn a_window_may_have_any_size_and_change_it() {
    needs!(Programs);
    let agent = Agent::start(Setup::default()).unwrap();
    let busy = busy();
    let mut terminal = shown(&agent.socket(), &["--interval", "0.2"]);
    terminal.resize(40, 10).unwrap();
    terminal
        .until("who it is and how much, in 40 by 10", |lines| {
            let named = line_of(lines, busy.pid()).is_some_and(|at| lines[at].contains("workload"));
            named && lines[0].ends_with(" live") && lines[9].starts_with("F1Help")
        })
        .unwrap();
    terminal.resize(200, 60).unwrap();
    terminal
        .until("more columns, in 200 by 60", |lines| {
            let headed = lines.iter().any(|line| line.contains("BEFORE"));
            let named = line_of(lines, busy.pid()).is_some_and(|at| lines[at].contains("workload"));
            headed && named && lines[59].starts_with("F1Help")
        })
        .unwrap();
}

#[test]
fn a_mouse_marks_sorts_scrolls_and_goes_back() {
    needs!(Programs);
    let agent = Agent::start(Setup::default()).unwrap();
    let _busy = busy();
    let mut terminal = shown(&agent.socket(), &["--interval", "0.2"]);
    let on = vt100::MouseProtocolMode::PressRelease;
    assert_eq!(terminal.screen().mouse_protocol_mode(), on);
    let head = |lines: &[String]| lines.iter().position(|line| line.contains("COMMAND"));
    let heading = head(&terminal.lines()).unwrap();

    // By number, so that lines stay where they are.
    let pid = terminal.lines()[heading].find("PID").unwrap();
    terminal.click(pid, heading).unwrap();
    terminal.until_shown("PID▲").unwrap();
    terminal.click(pid, heading).unwrap();
    terminal.until_shown("PID▼").unwrap();
    terminal.click(pid, heading).unwrap();
    terminal.until_shown("PID▲").unwrap();

    terminal.click(20, heading + 2).unwrap();
    let clicked = Some(heading + 2);
    wait::until("the line that was clicked is marked", || {
        marked(&mut terminal) == clicked
    })
    .unwrap();
    terminal.wheel(true).unwrap();
    let scrolled = Some(heading + 5);
    wait::until("the mark is three lines lower", || {
        marked(&mut terminal) == scrolled
    })
    .unwrap();
    terminal.wheel(false).unwrap();
    wait::until("and back", || marked(&mut terminal) == clicked).unwrap();

    // Into the first user, by the bottom line, and out again by the way.
    terminal.press("\x1b[Z\x1b[Z\x1b[Z\x1b[Z\x1b[Z").unwrap();
    terminal.until_shown(" users · ").unwrap();
    terminal
        .until("users", |lines| lines[heading + 1].len() > 10)
        .unwrap();
    let bottom = terminal.lines().pop().unwrap();
    terminal.click(bottom.find("Open").unwrap(), 23).unwrap();
    terminal.until_shown("users › ").unwrap();
    terminal.click(2, heading - 1).unwrap();
    terminal.until_shown(" users · ").unwrap();
    terminal.click(bottom.find("Quit").unwrap(), 23).unwrap();
    assert!(terminal.until_ended().unwrap().success());
    assert!(terminal.is_as_before().unwrap());
}

#[test]
fn an_agent_that_dies_is_missed_and_one_that_comes_back_is_shown() {
    needs!(Programs);
    let mut agent = Agent::start(Setup::default()).unwrap();
    let mut terminal = shown(&agent.socket(), &["--interval", "0.2"]);
    let is_plain = |terminal: &mut Terminal| colours(terminal).is_empty();
    assert!(
        is_plain(&mut terminal),
        "a terminal's own colours fit it, light or dark"
    );
    agent.kill().unwrap();
    terminal.until_shown(" LOST").unwrap();
    terminal.until_shown("trying again").unwrap();
    assert!(!is_plain(&mut terminal), "an alarm is coloured");
    agent.restart().unwrap();
    terminal.until_shown(" live").unwrap();
    assert!(is_plain(&mut terminal));
}

/// The colours that are not the terminal's own.
fn colours(terminal: &mut Terminal) -> Vec<vt100::Color> {
    let screen = terminal.screen();
    let (rows, columns) = screen.size();
    let cells = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
    let cells = cells.filter_map(|(row, column)| screen.cell(row, column));
    let colours = cells.flat_map(|cell| [cell.fgcolor(), cell.bgcolor()]);
    colours
        .filter(|colour| *colour != vt100::Color::Default)
        .collect()
}

#[test]
fn signals_and_ctrl_c_leave_the_terminal_as_it_was() {
    needs!(Programs);
    let agent = Agent::start(Setup::default()).unwrap();
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let mut terminal = shown(&agent.socket(), &[]);
        assert!(!terminal.is_as_before().unwrap());
        // SAFETY: a signal to a child that has not been waited for.
        unsafe { libc::kill(terminal.pid() as i32, signal) };
        assert!(terminal.until_ended().unwrap().success());
        assert!(terminal.is_as_before().unwrap(), "signal {signal}");
    }
    let mut terminal = shown(&agent.socket(), &[]);
    terminal.press("\x03").unwrap();
    assert!(terminal.until_ended().unwrap().success());
    assert!(terminal.is_as_before().unwrap());
}

#[test]
fn a_view_that_is_stopped_lends_the_terminal_to_the_shell() {
    needs!(Programs);
    let agent = Agent::start(Setup::default()).unwrap();
    let mut terminal = shown(&agent.socket(), &[]);
    terminal.press("\x1a").unwrap();
    let stat = format!("/proc/{}/stat", terminal.pid());
    let stopped = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "));
    wait::until("it is stopped", stopped).unwrap();
    assert!(terminal.is_as_before().unwrap());
    // SAFETY: a signal to a child that has not been waited for.
    unsafe { libc::kill(terminal.pid() as i32, libc::SIGCONT) };
    wait::until("it goes on", || terminal.screen().alternate_screen()).unwrap();
    terminal.until_shown(" live").unwrap();
    terminal.press("q").unwrap();
    assert!(terminal.until_ended().unwrap().success());
    assert!(terminal.is_as_before().unwrap());
}

#[test]
fn without_colour_and_utf8_all_is_said_in_ascii() {
    needs!(Programs);
    let mut agent = Agent::start(Setup::default()).unwrap();
    let _busy = busy();
    let mut command = top(&agent.socket(), &["--interval", "0.2"]);
    command.env("NO_COLOR", "1").env("LC_ALL", "C");
    let mut terminal = Terminal::start(command, 120, 24).unwrap();
    terminal.until_shown(" live").unwrap();
    terminal.until_shown(" W").unwrap();
    terminal.press("t").unwrap();
    terminal
        .until("history, order and tree in ASCII", |lines| {
            let has = |words: &str| lines.iter().any(|line| line.contains(words));
            has("Wv") && has("+- ") && has("#") && has(" | tree")
        })
        .unwrap();
    terminal.press("h").unwrap();
    terminal
        .until_shown("+Keys (any key goes back)---")
        .unwrap();
    terminal.press("h").unwrap();
    agent.kill().unwrap();
    terminal.until_shown(" LOST").unwrap();
    assert!(colours(&mut terminal).is_empty());
    assert!(terminal.written().is_ascii());
}

#[test]
fn what_was_recorded_can_be_replayed() {
    needs!(Programs);
    let agent = Agent::start(Setup::default()).unwrap();
    let busy = busy();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("session.ecotop");
    let path = file.to_str().unwrap();
    let arguments = ["--interval", "0.2", "--record", path];
    let mut terminal = Terminal::start(top(&agent.socket(), &arguments), 80, 24).unwrap();
    terminal.until_shown(" REC").unwrap();
    let named = |lines: &[String]| line_of(lines, busy.pid()).is_some();
    terminal.until("the busy process", named).unwrap();
    let recorded = || fs::read_to_string(&file).is_ok_and(|text| text.lines().count() > 5);
    wait::until("pictures are recorded", recorded).unwrap();
    terminal.press("q").unwrap();
    assert!(terminal.until_ended().unwrap().success());
    drop(agent);

    let nobody = folder.path().join("nobody.sock");
    let replay = top(&nobody, &["--replay", path]);
    let mut terminal = Terminal::start(replay, 80, 24).unwrap();
    terminal.until_shown(" END ").unwrap();
    terminal.until("the busy process again", named).unwrap();
    let pictures = fs::read_to_string(&file).unwrap().lines().count() - 1;
    terminal
        .until_shown(&format!("END {pictures}/{pictures}"))
        .unwrap();
    terminal.press("\x1b[D").unwrap();
    terminal
        .until_shown(&format!("PAUSED {}/{pictures}", pictures - 1))
        .unwrap();
    terminal.press("q").unwrap();
    assert!(terminal.until_ended().unwrap().success());
    assert!(terminal.is_as_before().unwrap());

    // Cut off in the middle of its last line, it plays up to there.
    let text = fs::read(&file).unwrap();
    fs::write(&file, &text[..text.len() - 20]).unwrap();
    let replay = top(&nobody, &["--replay", path]);
    let mut terminal = Terminal::start(replay, 80, 24).unwrap();
    terminal.until_shown("the rest cannot be played").unwrap();
    terminal
        .until_shown(&format!("END {0}/{0}", pictures - 1))
        .unwrap();
}

#[test]
fn where_there_is_no_screen_it_says_what_works_there() {
    needs!(Programs);
    let nobody = Path::new("/nonexistent/agent.sock");
    let says = |arguments: &[&str]| {
        let mut command = top(nobody, arguments);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
        String::from_utf8(output.stderr).unwrap()
    };
    let without = says(&[]);
    assert!(
        without.contains("no terminal") && without.contains("--once"),
        "{without}"
    );
    let absent = says(&["--replay", "/nonexistent/recording"]);
    assert!(
        absent.contains("/nonexistent/recording") && !absent.contains("no terminal"),
        "{absent}"
    );
    let other = says(&["--replay", "/dev/null"]);
    assert!(
        other.contains("/dev/null") && !other.contains("no terminal"),
        "{other}"
    );

    let mut command = top(nobody, &[]);
    command.env("TERM", "dumb");
    let mut terminal = Terminal::start(command, 80, 24).unwrap();
    assert_eq!(terminal.until_ended().unwrap().code(), Some(2));
    assert!(!terminal.written().contains(&0x1b));
    terminal.until_shown("TERM=dumb").unwrap();
    terminal.until_shown("--once").unwrap();
}

#[test]
fn where_no_agent_listens_it_starts_its_own_and_ends_it() {
    needs!(Programs);
    let busy = busy();
    let folder = tempfile::tempdir().unwrap();
    let nobody = folder.path().join("nobody.sock");
    for by_signal in [false, true] {
        let mut command = top(&nobody, &[]);
        command.env("TMPDIR", folder.path());
        let mut terminal = Terminal::start(command, 80, 24).unwrap();
        terminal.until_shown("a private agent's").unwrap();
        let named = |lines: &[String]| line_of(lines, busy.pid()).is_some();
        terminal.until("the busy process", named).unwrap();
        if by_signal {
            // SAFETY: a signal to a child that has not been waited for.
            unsafe { libc::kill(terminal.pid() as i32, libc::SIGTERM) };
        } else {
            terminal.press("q").unwrap();
        }
        assert!(terminal.until_ended().unwrap().success());
        assert!(terminal.is_as_before().unwrap());
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
