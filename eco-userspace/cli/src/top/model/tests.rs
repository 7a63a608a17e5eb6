// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;

fn unit(pid: u32, parent: u32, label: &str, cpu: f64, watts: f64) -> Unit {
    Unit {
        kind: "process".into(),
        name: format!("{label}-{pid}"),
        label: label.into(),
        pid: Some(pid),
        parent: Some(parent),
        user: Some(if pid < 10 { "root" } else { "ann" }.into()),
        cpu_percent: cpu,
        watts,
        energy_joules: [("package".to_owned(), f64::from(pid))].into(),
        ..Unit::default()
    }
}

fn units() -> Units {
    Units {
        units: vec![
            unit(1, 0, "init", 0.0, 0.1),
            unit(5, 1, "sshd", 1.0, 0.2),
            unit(20, 5, "bash", 2.0, 0.3),
            unit(21, 20, "Burn", 99.0, 9.0),
            unit(22, 20, "cat", 50.0, 12.0),
        ],
        ..Units::default()
    }
}

fn model() -> Model {
    let mut model = Model::default();
    model.feed(units());
    model
}

fn labels(model: &Model) -> Vec<String> {
    let show = |row: &Row| format!("{}{}", row.branch, model.units.units[row.unit].label);
    model.rows().iter().map(show).collect()
}

#[test]
fn each_order_puts_the_most_interesting_first() {
    let mut model = model();
    assert_eq!(labels(&model), ["cat", "Burn", "bash", "sshd", "init"]);
    model.sort_by(Sort::Cpu);
    assert_eq!(labels(&model), ["Burn", "cat", "bash", "sshd", "init"]);
    model.sort_by(Sort::Energy);
    assert_eq!(labels(&model), ["cat", "Burn", "bash", "sshd", "init"]);
    model.sort_by(Sort::User);
    assert_eq!(labels(&model), ["bash", "Burn", "cat", "init", "sshd"]);
    model.sort_by(Sort::Pid);
    assert_eq!(labels(&model), ["init", "sshd", "bash", "Burn", "cat"]);
    model.change(|m| m.inverted = true);
    assert_eq!(labels(&model), ["cat", "Burn", "bash", "sshd", "init"]);
}

#[test]
fn a_filter_finds_names_whatever_their_case_and_pids() {
    let mut model = model();
    model.change(|m| m.filter = "bU".into());
    assert_eq!(labels(&model), ["Burn"]);
    model.change(|m| m.filter = "22".into());
    assert_eq!(labels(&model), ["cat"]);
    model.change(|m| m.filter = "nothing has this".into());
    assert_eq!(labels(&model), [""; 0]);
    model.step(1);
    model.search("cat", From::Next);
    assert_eq!((model.selected(), model.visible(10)), (0, 0..0));
}

#[test]
fn a_search_goes_round_in_both_directions() {
    let mut model = model();
    model.search("s", From::Here);
    assert_eq!(model.marked().unwrap().label, "bash");
    model.search("s", From::Next);
    assert_eq!(model.marked().unwrap().label, "sshd");
    model.search("s", From::Next);
    assert_eq!(model.marked().unwrap().label, "bash");
    model.search("s", From::Previous);
    assert_eq!(model.marked().unwrap().label, "sshd");
    model.search("nobody", From::Next);
    assert_eq!(model.marked().unwrap().label, "sshd");
    assert!(model.has("INIT") && !model.has("nobody"));
}

#[test]
fn a_search_goes_on_in_the_data_that_it_made_come() {
    let mut model = model();
    assert!(!model.scope().all);
    model.mode = Mode::Search("late".into());
    assert!(model.scope().all, "a search looks through all");
    let mut more = units();
    more.units.push(unit(90, 1, "latecomer", 0.0, 0.0));
    model.feed(more);
    assert_eq!(model.marked().unwrap().label, "latecomer");
}

#[test]
fn only_the_chosen_users_units_are_shown() {
    let mut model = model();
    assert_eq!(model.users(), ["ann", "root"]);
    model.change(|m| m.user = Some("root".into()));
    assert_eq!(labels(&model), ["sshd", "init"]);
}

#[test]
fn a_tree_hangs_children_below_parents_in_order() {
    let mut model = model();
    model.change(|m| m.tree = true);
    assert_eq!(
        labels(&model),
        [
            "init",
            "└─ sshd",
            "   └─ bash",
            "      ├─ cat",
            "      └─ Burn"
        ]
    );
    model.change(|m| m.filter = "a".into());
    assert_eq!(
        labels(&model),
        ["bash", "└─ cat"],
        "an orphan of the filter is a root"
    );
}

#[test]
fn parents_in_a_circle_lose_nobody() {
    let mut model = Model {
        tree: true,
        ..Model::default()
    };
    model.feed(Units {
        units: vec![
            unit(1, 2, "a", 0.0, 3.0),
            unit(2, 1, "b", 0.0, 2.0),
            unit(3, 3, "c", 0.0, 1.0),
        ],
        ..Units::default()
    });
    assert_eq!(labels(&model), ["c", "a", "└─ b"]);
}

#[test]
fn a_mark_that_was_moved_stays_on_its_unit_while_the_order_changes() {
    let mut model = model();
    model.search("burn", From::Here);
    assert_eq!(model.selected(), 1);
    model.sort_by(Sort::Pid);
    assert_eq!(model.selected(), 3);
    let mut fewer = model.units.clone();
    fewer
        .units
        .retain(|unit| unit.label == "Burn" || unit.label == "init");
    model.feed(fewer);
    assert_eq!(model.selected(), 1);
    model.feed(Units::default());
    assert_eq!(model.selected(), 0);
}

#[test]
fn a_mark_that_nobody_moved_stays_at_the_top_whoever_is_there() {
    let mut model = model();
    let mut other = units();
    other.units[0].watts = 50.0;
    model.feed(other);
    assert_eq!(model.marked().unwrap().label, "init");
    model.step(1);
    model.step(-1);
    model.feed(units());
    assert_eq!(model.marked().unwrap().label, "cat", "it was brought back");
}

#[test]
fn the_marked_line_is_always_visible() {
    let mut model = model();
    model.step(4);
    assert_eq!(model.visible(2), 3..5);
    model.step(-3);
    assert_eq!(model.visible(2), 1..3);
    model.step(isize::MIN);
    assert_eq!(model.visible(2), 0..2);
    assert_eq!(model.visible(0), 0..0);
    model.step(isize::MAX);
    assert_eq!(model.visible(100), 0..5);
}

#[test]
fn a_paused_list_stands_still() {
    let mut model = model();
    model.paused = true;
    model.feed(Units::default());
    assert_eq!(model.rows().len(), 5);
}

#[test]
fn numbers_that_are_none_do_not_upset_the_order() {
    let mut model = model();
    let mut units = model.units.clone();
    units.units[0].watts = f64::NAN;
    units.units[1].watts = f64::INFINITY;
    model.feed(units);
    assert_eq!(model.rows().len(), 5);
}

#[test]
fn one_goes_into_a_unit_and_comes_back_to_it() {
    let pod = |name: &str, watts| Unit {
        kind: "pod".into(),
        name: format!("shop/{name}"),
        label: name.into(),
        uid: Some(format!("uid-of-{name}")),
        watts,
        ..Unit::default()
    };
    let pods = || Units {
        units: vec![pod("web", 2.0), pod("db", 1.0)],
        ..Units::default()
    };
    let mut model = Model::new(Kind::Pod);
    model.feed(pods());
    model.step(1);
    model.enter();
    let inside = Scope {
        kind: Kind::Container,
        within: Some("pod:uid-of-db".into()),
        all: false,
    };
    assert_eq!(model.scope(), inside);
    assert_eq!(
        (model.rows().len(), &model.link),
        (0, &Link::Waiting),
        "what is shown is not of the place before"
    );
    model.enter();
    assert_eq!(model.scope(), inside, "nothing is marked");

    model.leave_to(0);
    assert_eq!(model.scope().within, None);
    model.feed(pods());
    assert_eq!(model.marked().unwrap().label, "db");
}

#[test]
fn a_process_has_no_inside_but_details() {
    let mut model = model();
    model.enter();
    assert_eq!(model.mode, Mode::Details("cat-22".into()));
    assert_eq!(model.scope().within, None);
    assert_eq!(model.unit("cat-22").unwrap().label, "cat");
}

#[test]
fn all_are_fetched_only_where_those_of_little_power_matter() {
    let mut model = model();
    assert!(!model.scope().all);
    model.sort_by(Sort::Pid);
    assert!(model.scope().all);
    model.sort_by(Sort::Watts);
    model.change(|m| m.tree = true);
    assert!(model.scope().all);
    model.change(|m| (m.tree, m.filter) = (false, "x".into()));
    assert!(model.scope().all);
}
