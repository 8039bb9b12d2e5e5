//! Whose a request is: its token's tenant, the URL's, or the header's that is believed; and what is wrong where they do not agree.
//!
//! A tenant that is wrong or missing is answered 400, and the sender throws the request away: to take it as somebody else's would be worse, and 503 would hold
//! up for ever what only a person can mend. The text says how.

use hyper::HeaderMap;
use hyper::http::Extensions;

use crate::config::groups::Tenant;
use crate::ingest::head::Hint;
use crate::model::tenant;
use crate::serve;

/// What a request says about its tenant beside its URL.
pub struct Claims {
    token: Option<serve::Tenant>,
    header: Option<String>,
}

/// Those of a request.
pub fn claims(headers: &HeaderMap, extensions: &Extensions, rule: &Tenant) -> Claims {
    let header = rule.header.as_deref().and_then(|name| serve::tenant_in(headers, name));
    Claims { token: extensions.get::<serve::Tenant>().cloned(), header }
}

/// Leaves the request's tenant in the hint; or says what is wrong.
pub fn settle(hint: &mut Hint, claims: Claims, rule: &Tenant) -> Result<(), String> {
    let token = claims.token.as_ref().map(|token| &*token.0);
    let header = rule.header.as_deref().unwrap_or("the header");
    let named = [("its token", token), ("the URL", hint.tenant.as_deref()), (header, claims.header.as_deref())];
    match tenant::agreed(&named)?.map(str::to_owned) {
        None if rule.required => Err(tenant::missing(rule.header.as_deref())),
        tenant => {
            hint.tenant = tenant;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderName;
    use hyper::header::HeaderValue;

    fn rule(header: bool, required: bool) -> Tenant {
        Tenant { header: header.then(|| "x-scope-orgid".to_owned()), required }
    }

    fn settled(url: Option<&str>, header: &[&[u8]], token: Option<&str>, rule: &Tenant) -> Result<String, String> {
        let name = HeaderName::from_static("x-scope-orgid");
        let headers: HeaderMap = header.iter().map(|value| (name.clone(), HeaderValue::from_bytes(value).unwrap())).collect();
        let mut extensions = Extensions::new();
        token.and_then(|token| extensions.insert(serve::Tenant(token.into())));
        let mut hint = Hint { tenant: url.map(Into::into), ..Hint::default() };
        settle(&mut hint, claims(&headers, &extensions, rule), rule).map(|()| hint.tenant.unwrap_or_default())
    }

    #[test]
    fn a_tenant_is_the_tokens_the_urls_or_the_headers_that_is_believed() {
        let (off, on) = (rule(false, false), rule(true, false));
        assert_eq!(settled(None, &[], None, &on), Ok(String::new()));
        assert_eq!(settled(Some("a"), &[], None, &off), Ok("a".to_owned()));
        assert_eq!(settled(None, &[b"a"], None, &off), Ok(String::new()), "no header is believed that the file does not name");
        assert_eq!(settled(None, &[b" a "], None, &on), Ok("a".to_owned()));
        assert_eq!(settled(None, &[], Some("a"), &off), Ok("a".to_owned()));
        assert_eq!(settled(Some("a"), &[b"a"], Some("a"), &on), Ok("a".to_owned()));
        assert_eq!(settled(None, &[b"b"], Some("a"), &off), Ok("a".to_owned()));
    }

    #[test]
    fn tenants_that_do_not_agree_are_none_or_are_missing_are_told_with_a_remedy() {
        let (on, required) = (rule(true, false), rule(true, true));
        let wrong = |url, header: &[&[u8]], token| settled(url, header, token, &on).unwrap_err();
        let both = wrong(None, &[b"b"], Some("a"));
        assert!(both.contains("its token is of tenant \"a\" and x-scope-orgid says \"b\"") && both.contains("leave one out"), "{both}");
        assert!(wrong(Some("a"), &[], Some("b")).contains("the URL says \"a\""));
        for header in [&b"a|b"[..], b"", b"..", b"\xff", b"a/b", &[b'x'; 4000]] {
            let text = wrong(None, &[header], None);
            assert!(text.contains("a tenant has 1 to 150 letters") && text.len() < 600, "{text}");
        }
        assert!(wrong(None, &[b"a", b"a"], None).contains("a tenant has"), "two headers are no tenant");
        assert!(wrong(Some(""), &[], None).contains("the URL names \"\""));
        let missing = settled(None, &[], None, &required).unwrap_err();
        assert!(
            missing.contains("/tenants/NAME") && missing.contains("x-scope-orgid") && missing.contains("token create --tenant"),
            "{missing}"
        );
        assert_eq!(settled(Some("a"), &[], None, &required), Ok("a".to_owned()));
    }
}
