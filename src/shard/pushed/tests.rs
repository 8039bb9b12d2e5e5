//! Pushes one after the other: what stays, what is refused, and that nothing of what was refused is remembered.

use super::*;
use crate::wire::families::text;

fn key(labels: &[(&str, &str)]) -> Key {
    Key { tenant: String::new(), labels: labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect() }
}

fn push(group: &Key, replace: bool, body: &str) -> Change {
    let mut read = text::read(body.as_bytes()).unwrap();
    assert_eq!(read.refused, None);
    read.families.iter_mut().for_each(|family| family.label(&group.labels));
    let families = read.families.iter().map(|family| (family.name.clone(), Stored::new(family))).collect();
    Change::Push { group: group.clone(), replace, families }
}

fn names(pushed: &Pushed, key: &Key) -> Vec<String> {
    pushed.groups.get(key).map(|group| group.families.keys().cloned().collect()).unwrap_or_default()
}

/// What is derived is what would be derived from what an image holds.
#[track_caller]
fn sound(pushed: &Pushed) {
    let mut bytes = Vec::new();
    pushed.write(&mut Writer(&mut bytes));
    let mut from = Reader(&bytes);
    assert_eq!(Pushed::read(&mut from).as_ref(), Ok(pushed));
    assert_eq!(from.end(), Ok(()));
}

#[test]
fn put_replaces_a_group_and_post_what_has_the_same_name() {
    let (mut pushed, a) = (Pushed::default(), key(&[("job", "a")]));
    pushed.change(push(&a, true, "x 1\ny 2\n"), 10).unwrap();
    pushed.change(push(&a, false, "y{z=\"1\"} 3\n"), 20).unwrap();
    assert_eq!(names(&pushed, &a), ["x", "y"]);
    let group = &pushed.groups[&a];
    assert_eq!((group.families["x"].at, group.families["y"].at, group.pushed, group.failed), (10, 20, 20, 0));
    assert_eq!(group.families["y"].family("y").metrics.len(), 1);
    sound(&pushed);
    pushed.change(push(&a, true, "z 1\n"), 30).unwrap();
    assert_eq!(names(&pushed, &a), ["z"]);
    pushed.change(push(&a, true, ""), 40).unwrap();
    assert_eq!((names(&pushed, &a).len(), pushed.groups[&a].pushed), (0, 40), "an empty one only says when");
    sound(&pushed);
    pushed.change(Change::Delete(a.clone()), 50).unwrap();
    pushed.change(Change::Delete(a), 50).unwrap();
    assert_eq!(pushed, Pushed::default());
}

#[test]
fn what_does_not_fit_is_refused_and_its_time_is_kept() {
    let (mut pushed, a, b) = (Pushed::default(), key(&[("job", "a")]), key(&[("job", "a"), ("host", "h")]));
    pushed.change(push(&a, true, "# TYPE x counter\nx{host=\"h\"} 1\n# TYPE s summary\ns_sum 1\ns_count 2\n"), 10).unwrap();
    let mut refused = |body: &str, at| {
        let why = pushed.change(push(&b, false, body), at).unwrap_err();
        sound(&pushed);
        assert_eq!((names(&pushed, &b).len(), pushed.groups[&b].failed, pushed.groups[&b].pushed), (0, at, 0));
        why
    };
    assert!(refused("x 1\n", 20).contains("x has type untyped but should have counter"));
    assert!(refused("y 1\n# TYPE x counter\nx 1\n", 30).contains("with the same labels"), "its labels are another group's");
    assert!(refused("y{a=\"1\"} 1\ny{a=\"1\"} 2\n", 40).contains("with the same labels"));
    assert!(refused("s_count 1\n", 50).contains("s_count collides with a part of the summary s"));
    let c = key(&[("job", "c")]);
    pushed.change(push(&c, true, "h_bucket 1\n"), 60).unwrap();
    let why = pushed.change(push(&b, true, "# TYPE h histogram\nh_count 1\n"), 70).unwrap_err();
    assert!(why.contains("the histogram h collides with h_bucket"), "{why}");
    // A group is never in its own way, and where one is gone its types are.
    pushed.change(push(&a, true, "# TYPE x gauge\nx{host=\"h\"} 1\n"), 80).unwrap();
    pushed.change(Change::Delete(a), 90).unwrap();
    pushed.change(push(&b, true, "x 1\n"), 95).unwrap();
    sound(&pushed);
}

#[test]
fn a_refused_push_changes_nothing_but_the_time() {
    let (mut pushed, a, b) = (Pushed::default(), key(&[("job", "a")]), key(&[("job", "b")]));
    pushed.change(push(&b, true, "# TYPE x counter\nx 1\n"), 5).unwrap();
    pushed.change(push(&a, true, "y 1\nz 1\n"), 10).unwrap();
    assert!(pushed.change(push(&a, true, "w 1\n# TYPE x gauge\nx 1\n"), 20).is_err());
    assert_eq!((names(&pushed, &a), pushed.groups[&a].pushed, pushed.groups[&a].failed), (vec!["y".into(), "z".into()], 10, 20));
    pushed.change(push(&b, false, "# TYPE w gauge\nw 1\n"), 30).unwrap();
    sound(&pushed);
}

#[test]
fn tenants_do_not_see_each_other() {
    let (mut pushed, nobody) = (Pushed::default(), key(&[("job", "a")]));
    let other = Key { tenant: "t".into(), ..nobody.clone() };
    pushed.change(push(&nobody, true, "# TYPE x gauge\nx 1\n"), 1).unwrap();
    pushed.change(push(&other, true, "# TYPE x counter\nx 1\n"), 1).unwrap();
    assert_eq!(pushed.groups.len(), 2);
    sound(&pushed);
}

#[test]
fn a_group_expires_only_if_nothing_was_pushed_since() {
    let (mut pushed, a) = (Pushed::default(), key(&[("job", "a")]));
    pushed.change(push(&a, true, "x 1\n"), 10).unwrap();
    pushed.change(push(&a, true, "x 1\n"), 20).unwrap();
    pushed.change(Change::Expire(a.clone(), 10), 30).unwrap();
    assert_eq!(names(&pushed, &a), ["x"]);
    pushed.change(Change::Failed(a.clone()), 35).unwrap();
    pushed.change(Change::Expire(a, 20), 40).unwrap();
    assert_eq!(pushed, Pushed::default());
}

#[test]
fn everything_is_bounded() {
    let mut pushed = Pushed::default();
    let large: String = (0..MOST_GROUP_BYTES / 150).map(|n| format!("x{{n=\"{n:0100}\"}} 1\n")).collect();
    let too_large: String = (0..MOST_GROUP_BYTES / 80).map(|n| format!("x{{n=\"{n:0100}\"}} 1\n")).collect();
    let group = |number: usize| key(&[("job", &number.to_string())]);
    assert!(pushed.change(push(&group(0), true, &too_large), 1).unwrap_err().contains("docs/push.md"));
    let full = (1..100).find_map(|number| pushed.change(push(&group(number), true, &large), 1).err()).unwrap();
    assert!(full.contains("all groups together"), "{full}");
    assert!(pushed.bytes <= MOST_BYTES);
    sound(&pushed);
    let mut pushed = Pushed::default();
    (0..MOST_GROUPS + 5).for_each(|number| pushed.change(Change::Failed(group(number)), 1).unwrap());
    assert_eq!(pushed.groups.len(), MOST_GROUPS);
    assert!(pushed.change(push(&group(MOST_GROUPS + 1), true, "x 1\n"), 1).unwrap_err().contains("groups already"));
    pushed.change(push(&group(1), true, "x 1\n"), 1).unwrap();
}
