//! Old series leave the shard's memory, in every group.

use super::*;

#[test]
fn forgetting_goes_round_all_groups_of_a_shard() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = Settings { data_shards: 1, ..settings(directory.path()) };
    settings.timing.forget = Duration::from_millis(20);
    let node = start(settings);
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    wait(handle.configure(|settings| settings.forget_series_ms = 10_000)).unwrap();
    let (seed, now) = (handle.hash_seed(), clock::wall_ms());
    // One more than two rounds take.
    let names: Vec<String> = (0..129).map(|number| format!("g{number:03}")).collect();
    for name in &names {
        // Two series, of which one goes on.
        send(&handle, offer(seed, name, "a", (2, now - 60_000, 0))).unwrap();
        send(&handle, offer(seed, name, "a", (1, now, 0))).unwrap();
    }
    eventually(|| {
        let groups = handle.groups();
        groups.len() == names.len() && groups.iter().all(|group| group.series == 1)
    });
    assert!(node.stop().is_empty());
}
