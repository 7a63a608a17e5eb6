// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whole screens, 80 by 24, from recorded units.

use eco_agent::api::{Node, NodeMeter, Unit, Units};
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent},
};

use super::{
    input::on_key,
    kind::Kind,
    model::{Model, Playback},
    view::{Looks, draw},
};

fn unit(pid: u32, parent: u32, user: &str, label: &str, cpu: f64, watts: f64) -> Unit {
    Unit {
        kind: "process".into(),
        name: format!("{label}/{pid}"),
        label: label.into(),
        pid: Some(pid),
        parent: Some(parent),
        user: Some(user.into()),
        cpu_percent: cpu,
        watts,
        energy_joules: [("package".to_owned(), watts * 100.0)].into(),
        ..Unit::default()
    }
}

fn recorded() -> Units {
    Units {
        at: "2026-01-02T03:04:05.678Z".into(),
        window_seconds: 1.0,
        node: Node {
            name: "node-1".into(),
            cpus: 4,
            cpu_percent: 187.5,
            watts: [("dram".to_owned(), 3.2), ("package".to_owned(), 41.25)].into(),
            idle_watts: [("dram".to_owned(), 2.0), ("package".to_owned(), 20.0)].into(),
            estimated: true,
            processes: 112,
            ..Node::default()
        },
        units: vec![
            unit(4242, 812, "ann", "python3 train.py", 99.5, 12.25),
            unit(812, 1, "ann", "bash", 0.2, 0.03),
            unit(1, 0, "root", "systemd", 0.1, 0.01),
            unit(
                977,
                1,
                "postgres",
                "postgres: Übersicht für 数据库服务 with a name that is long",
                88.0,
                9.5,
            ),
        ],
    }
}

fn model() -> Model {
    let mut model = Model::new(Kind::Process);
    model.tier = "iter".into();
    model.feed(recorded());
    model
}

fn press(model: &mut Model, keys: &str) {
    for key in keys.chars() {
        on_key(model, KeyEvent::from(KeyCode::Char(key)), 10);
    }
}

#[test]
fn carbon_is_shown_where_it_is_known() {
    let mut model = model();
    assert!(!screen(&mut model).contains("carbon"));
    let mut units = recorded();
    units.node.carbon_grams_per_hour = Some(16.02);
    model.feed(units);
    assert!(
        screen(&mut model).contains("idle 22.0 W  carbon 16.0 g/h\n"),
        "{}",
        screen(&mut model)
    );
}

/// The screen as text, without blanks at line ends and empty lines.
fn screen(model: &mut Model) -> String {
    sized(model, 80, 24)
}

fn sized(model: &mut Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let looks = Looks {
        colour: false,
        unicode: true,
    };
    terminal
        .draw(|frame| _ = draw(frame, model, looks))
        .unwrap();
    let buffer = terminal.backend().buffer().clone();
    let mut text = String::new();
    for y in 0..height {
        let mut line = String::new();
        let mut x = 0;
        while x < width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            // A wide letter takes two cells.
            x += (ratatui::text::Span::raw(symbol).width() as u16).max(1);
        }
        if !line.trim_end().is_empty() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

#[test]
fn the_list_shows_who_uses_most_power_first() {
    assert_eq!(
        screen(&mut model()),
        "\x20eco top · node-1 · 4 CPUs · 112 processes · tier iter            03:04:05 live
 CPU        187.5 % of 400 %  [|||||||||           ]
 power       44.5 W estimated  idle 22.0 W
 dram        3.20 W  idle 2.00 W
 package     41.2 W  idle 20.0 W
 processes · 4 shown
    PID USER        CPU%       W▼    ENERGY COMMAND
   4242 ann         99.5    12.25   1.23 kJ python3 train.py
    977 postgres    88.0     9.50     950 J postgres: Übersicht für 数据库服务 w
    812 ann          0.2     0.03    3.00 J bash
      1 root         0.1     0.01    1.00 J systemd
F1Help F2Kind F3Search F4Filter F5Tree F6Sort EntOpen BkspBack F10Quit
"
    );
}

#[test]
fn a_wide_screen_shows_sockets_gpus_what_is_emitted_and_what_was_before() {
    let meter = |domain: &str, device: u32, watts| NodeMeter {
        name: format!("{domain}-{device}"),
        domain: domain.into(),
        device: device.to_string(),
        watts,
        ..NodeMeter::default()
    };
    let mut model = Model::new(Kind::Process);
    for second in 0..8 {
        let mut units = recorded();
        units.at = format!("2026-01-02T03:04:{second:02}Z");
        units.node.watts = [("gpu".to_owned(), 300.0), ("package".to_owned(), 41.25)].into();
        units.node.idle_watts.clear();
        units.node.meters = vec![
            meter("package", 0, 20.25),
            meter("package", 1, 21.0),
            meter("gpu", 0, 100.0),
            meter("gpu", 1, 200.0),
        ];
        units.node.carbon_grams_per_hour = Some(120.0);
        units.units.truncate(1);
        units.units[0].watts = f64::from(second) * 2.0;
        units.units[0].carbon_grams_per_hour = Some(5.5);
        let gpu = f64::from(second) * 150.0;
        units.units[0].energy_joules.insert("gpu".into(), gpu);
        model.feed(units);
    }
    assert_eq!(
        sized(&mut model, 120, 20),
        "\x20eco top · node-1 · 4 CPUs · 112 processes                                                                03:04:07 live
 CPU        187.5 % of 400 %  [|||||||||           ]
 power        341 W estimated  carbon 120 g/h  ████████  peak 341 W
 gpu          300 W  0: 100 W  1: 200 W
 package     41.2 W  0: 20.2 W  1: 21.0 W
 processes · 1 shown
    PID USER        CPU%       W▼    ENERGY    GPU W  CO2 g/h BEFORE           COMMAND
   4242 ann         99.5    14.00   2.27 kJ   150.00     5.50 ▁▂▃▄▅▆▇█         python3 train.py
F1Help F2Kind F3Search F4Filter F5Tree F6Sort EntOpen BkspBack F10Quit
"
    );
}

#[test]
fn the_way_into_a_pod_is_shown_and_a_replay_says_where_it_is() {
    let mut model = Model::new(Kind::Pod);
    let pod = Unit {
        kind: "pod".into(),
        name: "shop/web-0".into(),
        uid: Some("12-ab".into()),
        ..Unit::default()
    };
    model.feed(Units {
        units: vec![pod],
        ..Units::default()
    });
    on_key(&mut model, KeyEvent::from(KeyCode::Enter), 10);
    let container = Unit {
        kind: "container".into(),
        name: "c0ffee".into(),
        label: "c0ffee".into(),
        pod: Some("shop/web-0".into()),
        container: Some("main\n".into()),
        ..Unit::default()
    };
    model.feed(Units {
        units: vec![container],
        ..Units::default()
    });
    model.playback = Some(Playback {
        picture: 3,
        pictures: 12,
        speed: 2.0,
        paused: false,
    });
    let shown = screen(&mut model);
    assert!(
        shown.contains(" pods › shop/web-0 › containers · 1 shown\n"),
        "{shown}"
    );
    assert!(
        shown.contains("c0ffee main\u{fffd} in shop/web-0\n"),
        "{shown}"
    );
    assert!(shown.contains("REPLAY 3/12 ×2\n"), "{shown}");
    assert!(shown.contains("SpcPause ←→Step +-Speed"), "{shown}");
}

#[test]
fn all_about_a_process_is_shown_until_any_key() {
    let mut model = model();
    on_key(&mut model, KeyEvent::from(KeyCode::Enter), 10);
    let details = screen(&mut model);
    assert!(details.contains("┌python3 train.py"), "{details}");
    assert!(details.contains("│process  4242"), "{details}");
    assert!(details.contains("│energy   1.23 kJ  package"), "{details}");
    model.feed(Units::default());
    assert!(screen(&mut model).contains("It has ended"));
    press(&mut model, "x");
    assert!(!screen(&mut model).contains("It has ended"));
}

#[test]
fn the_order_shows_in_the_head_of_its_column() {
    let mut model = model();
    press(&mut model, "N");
    let by_pid = screen(&mut model);
    assert!(by_pid.contains("   PID▲ USER        CPU%        W    ENERGY COMMAND\n      1 root"));
    press(&mut model, "PI");
    let by_cpu = screen(&mut model);
    assert!(by_cpu.contains("    PID USER       CPU%▲        W    ENERGY COMMAND\n      1 root"));
}

#[test]
fn a_tree_is_drawn_with_branches_and_a_filter_is_said() {
    let mut model = model();
    press(&mut model, "t");
    let tree = screen(&mut model);
    assert!(
        tree.contains(
            "\
 processes · 4 shown · tree
    PID USER        CPU%       W▼    ENERGY COMMAND
      1 root         0.1     0.01    1.00 J systemd
    977 postgres    88.0     9.50     950 J ├─ postgres: Übersicht für 数据库服
    812 ann          0.2     0.03    3.00 J └─ bash
   4242 ann         99.5    12.25   1.23 kJ    └─ python3 train.py
"
        ),
        "{tree}"
    );
    press(&mut model, "t\\tRAin");
    let filtered = screen(&mut model);
    assert!(
        filtered.contains(
            "\
 processes · 1 of 4 shown · filter \"tRAin\"
    PID USER        CPU%       W▼    ENERGY COMMAND
   4242 ann         99.5    12.25   1.23 kJ python3 train.py
Filter: tRAin   Enter keeps  Esc clears
"
        ),
        "{filtered}"
    );
}

#[test]
fn without_an_agent_the_screen_says_so_and_keeps_what_it_had() {
    let mut fresh = Model::new(Kind::Process);
    assert!(screen(&mut fresh).contains("waiting for the agent"));
    fresh.lose("no agent listens on /x".into());
    let screen_without = screen(&mut fresh);
    assert!(screen_without.contains("LOST\n trying again: no agent listens on /x\n"));
    assert!(screen_without.contains("no data; `eco status` tells what is missing"));
    let mut lost = model();
    lost.lose("no agent listens on /x".into());
    let screen_after = screen(&mut lost);
    assert!(screen_after.contains("03:04:05 LOST") && screen_after.contains("python3 train.py"));
    lost.feed(recorded());
    assert!(screen(&mut lost).contains("03:04:05 live"));
}

#[test]
fn an_empty_list_says_why() {
    let mut jobs = Model::new(Kind::Job);
    jobs.feed(Units::default());
    assert!(screen(&mut jobs).contains("no jobs; try: eco run -- CMD"));
    let mut filtered = model();
    press(&mut filtered, "\\zzz");
    assert!(screen(&mut filtered).contains("nothing matches; Esc shows all"));
}

#[test]
fn menus_and_help_lie_over_the_list() {
    let mut model = model();
    press(&mut model, ">");
    assert!(screen(&mut model).contains("│> W             │"));
    press(&mut model, "qu");
    let users = screen(&mut model);
    assert!(
        users.contains("│> everybody     │") && users.contains("│  postgres      │"),
        "{users}"
    );
    press(&mut model, "qh");
    assert!(screen(&mut model).contains("│F10 or q         quit"));
}

#[test]
fn units_of_other_kinds_show_how_many_tasks_they_have() {
    let mut model = Model::new(Kind::Container);
    let mut container = unit(1, 1, "", "web", 1.0, 2.0);
    (container.kind, container.pid, container.user) = ("container".into(), None, None);
    container.tasks = 17;
    model.feed(Units {
        units: vec![container],
        ..Units::default()
    });
    let screen = screen(&mut model);
    assert!(
        screen.contains("  TASKS USER        CPU%       W▼    ENERGY NAME\n     17"),
        "{screen}"
    );
}

#[test]
fn numbers_that_are_none_and_names_with_control_characters_are_harmless() {
    let mut units = recorded();
    units.units[0].watts = f64::NAN;
    units.units[0].cpu_percent = f64::INFINITY;
    units.units[0].label = "a\x1b[2J\nb".into();
    units.node.cpu_percent = f64::NAN;
    units.node.watts.insert("p\u{7}".into(), f64::NAN);
    let mut model = Model::new(Kind::Process);
    model.feed(units);
    let screen = screen(&mut model);
    assert!(!screen.contains("NaN") && !screen.contains("inf") && !screen.contains('\x1b'));
    assert!(screen.contains("a\u{fffd}[2J\u{fffd}b"), "{screen}");
}

#[test]
fn a_narrow_and_low_screen_shows_who_it_is_and_how_much() {
    assert_eq!(
        sized(&mut model(), 40, 9),
        "\x20eco top · node-1 · 4 CPUs03:04:05 live
 CPU        187.5 % of 400 %  [|||||||||
 power       44.5 W estimated  idle 22.0
 processes · 4 shown
    PID   CPU%       W▼ COMMAND
   4242   99.5    12.25 python3 train.py
    977   88.0     9.50 postgres: Übersi
    812    0.2     0.03 bash
F1Help F2Kind F3Search F4Filter F5Tree F
"
    );
}

#[test]
fn any_size_of_terminal_can_be_drawn() {
    for (width, height) in [(1, 1), (5, 3), (20, 7), (80, 8), (300, 100)] {
        for keys in ["", "h", ">", "u", "/x", "\\é"] {
            let mut model = model();
            press(&mut model, keys);
            sized(&mut model, width, height);
        }
    }
}
