//! Tenants: whose samples they are, where several teams or customers write to one cluster. A tenant is a part of its groups' names, so two tenants with equal labels are two groups,
//! with limits, leaders and coverage of their own, and nothing else has to know of tenants.
//!
//! Left out on purpose: where a tenant comes from (`ingest`), and where it goes to (`forward`).

use crate::model::NO_GROUP;

/// The name by which selectors, relabelling and templates see a sample's tenant. No series goes out with it.
pub const LABEL: &str = "__tenant__";
/// Between a tenant and the group's own name.
const BETWEEN: &str = "::";
/// The longest, as Mimir has it.
pub const LONGEST: usize = 150;
/// What stands for the rule in messages.
pub const RULE: &str = "a tenant has 1 to 150 letters, digits and !-_.*'(), and is not `.`, `..` or `__mimir_cluster`; or is two numbers as VictoriaMetrics has them: 12:3";

/// Whether stores take this name: Mimir's rules, and VictoriaMetrics' `account:project`.
pub fn legal(tenant: &str) -> bool {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!-_.*'()".contains(&byte));
    let number = |text: &str| text.parse::<u32>().is_ok() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = || tenant.split_once(':').is_some_and(|(account, project)| number(account) && number(project));
    let own = tenant == "." || tenant == ".." || tenant == "__mimir_cluster";
    (1..=LONGEST).contains(&tenant.len()) && !own && (plain(tenant) || numbers())
}

/// The tenant that a request names at these places (`its token`, `the URL` ...), which must agree; none: it names none. An error says what is wrong, and the way out.
pub fn agreed<'a>(places: &[(&str, Option<&'a str>)]) -> Result<Option<&'a str>, String> {
    let mut found: Option<(&str, &str)> = None;
    for (place, name) in places.iter().filter_map(|(place, name)| Some((*place, (*name)?))) {
        if !legal(name) {
            let shown: String = name.chars().take(160).collect();
            return Err(format!("{place} names {shown:?} as tenant; {RULE}"));
        }
        match found {
            Some((before, other)) if other != name => {
                return Err(format!("{before} is of tenant {other:?} and {place} says {name:?}; leave one out, or take another token"));
            }
            Some(_) => {}
            None => found = Some((place, name)),
        }
    }
    Ok(found.map(|(_, name)| name))
}

/// What to tell a request that names no tenant where it must; `header`: one that is believed.
pub fn missing(header: Option<&str>) -> String {
    format!(
        "it names no tenant (groups.tenant.required); write /tenants/NAME before the path of the URL{}, or use a token made with `sluice token create --tenant NAME`",
        header.map(|name| format!(", or send the header {name}")).unwrap_or_default()
    )
}

/// The name of a tenant's group; of nobody's where the tenant is empty. No two pairs have the same name: a legal tenant has no `::` and no colon at its end.
pub fn group_name(tenant: &str, group: &str) -> String {
    if tenant.is_empty() && !group.contains(BETWEEN) { group.to_owned() } else { format!("{tenant}{BETWEEN}{group}") }
}

/// The tenant of a group, empty for nobody's, and the group's own name.
pub fn split(name: &str) -> (&str, &str) {
    name.split_once(BETWEEN).unwrap_or(("", name))
}

/// The tenant of a group; empty for nobody's.
pub fn of(name: &str) -> &str {
    split(name).0
}

/// Whether it is the group of samples that know none, of any tenant.
pub fn is_no_group(name: &str) -> bool {
    split(name).1 == NO_GROUP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_what_stores_take() {
        for good in ["a", "team-a", "0", "12:3", "A_b.c*'()!", &"x".repeat(150)] {
            assert!(legal(good), "{good}");
        }
        let long = "x".repeat(151);
        for bad in [
            "",
            ".",
            "..",
            "__mimir_cluster",
            "a|b",
            "a/b",
            "a b",
            "ä",
            "a:b",
            "1:",
            ":1",
            "1:2:3",
            "+1:2",
            "4294967296:1",
            "a::b",
            "a\nb",
            &long,
        ] {
            assert!(!legal(bad), "{bad}");
        }
    }

    #[test]
    fn no_two_tenants_share_a_group_however_groups_are_called() {
        let (tenants, groups) = (["", "a", "1:2", "1"], ["c", "-", "a::c", "::c", ":c", "2::c", "", "m/k/shard-1"]);
        let mut names = std::collections::BTreeSet::new();
        for (tenant, group) in tenants.into_iter().flat_map(|tenant| groups.map(|group| (tenant, group))) {
            let name = group_name(tenant, group);
            assert_eq!(split(&name), (tenant, group), "{name}");
            assert!(names.insert(name));
        }
        assert_eq!((group_name("", "c"), group_name("team-a", "m/k")), ("c".to_owned(), "team-a::m/k".to_owned()));
        assert!(is_no_group("-") && is_no_group("a::-") && !is_no_group("a::b-"));
    }
}
