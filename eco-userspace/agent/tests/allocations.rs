// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A scrape allocates as much for ten thousand series as for a few, and as much the thousandth
//! time as the first. In a program of its own, as the allocator counts for all of it.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
};

use eco_agent::{
    carbon::books::CarbonRow,
    config::Settings,
    core::Core,
    ledger::accounts::Kind,
    outlets::{exposition::Dialect, metrics},
    series::{Phase, Tags, ViewSeries, scrapers::Moment},
};

/// Counts, and passes on.
struct Counting;

static MADE: AtomicU64 = AtomicU64::new(0);
static HELD: AtomicI64 = AtomicI64::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MADE.fetch_add(1, Ordering::Relaxed);
        HELD.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// An agent on an empty machine, with so many pods of somebody's.
fn core(pods: usize) -> Core {
    let empty = tempfile::tempdir().unwrap();
    let folder = empty.path().display().to_string();
    let mut settings = Settings::defaults();
    for key in ["sysfs", "procfs"] {
        settings.set_flag(key, Some(folder.clone()));
    }
    settings.set_flag("state", Some(String::new()));
    settings.set_flag("tier", Some("procfs".into()));
    settings.set_flag("kubernetes.source", Some("off".into()));
    let mut core = Core::new(settings.build().unwrap());
    for number in 0..pods {
        let account = core.books.accounts.open();
        core.books.views.announce(ViewSeries {
            kind: Kind::PodContainer,
            name: format!("uid-{number}/main"),
            account,
            phase: Phase::Announced(Moment::ZERO),
            base_energy: vec![1_234_567; core.meters.len()],
            base_carbon: CarbonRow::EMPTY,
            base_cpu_ns: 1,
            user: String::new(),
            tags: Tags::Pod {
                namespace: "shop".into(),
                pod: format!("web \"{number}\"\n"),
                uid: format!("uid-{number}"),
                container: "main".into(),
            },
        });
    }
    core
}

#[test]
fn a_scrape_allocates_nothing_per_series_and_no_more_the_thousandth_time() {
    let mut made = Vec::new();
    for pods in [1, 10_000] {
        let mut core = core(pods);
        let mut out = String::new();
        metrics::render(&mut core, Dialect::OpenMetrics, &mut out);
        let series = out.lines().filter(|l| l.starts_with("eco_pod_")).count();
        assert!(series >= pods);
        let (before, held) = (MADE.load(Ordering::Relaxed), HELD.load(Ordering::Relaxed));
        for _ in 0..1_000 / pods.min(10) {
            metrics::render(&mut core, Dialect::OpenMetrics, &mut out);
        }
        let scrapes = 1_000 / pods.min(10) as u64;
        made.push((MADE.load(Ordering::Relaxed) - before).div_ceil(scrapes));
        let grown = HELD.load(Ordering::Relaxed) - held;
        assert!(
            grown <= 64 << 10,
            "{grown} bytes more after {scrapes} scrapes"
        );
    }
    assert!(made[1] <= made[0] + 2, "allocations a scrape: {made:?}");
}
