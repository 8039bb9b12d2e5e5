//! Dead letters of a store, sent again after the cause was mended: what `sluice sink replay` does. One after the other, over a connection of its own, so that each
//! has an outcome and the workers are not held up.

use std::sync::Arc;

use crate::forward::remote_write::flight;
use crate::forward::remote_write::flight::To;
use crate::forward::remote_write::lane::Head;
use crate::forward::remote_write::lane::Lane;
use crate::forward::remote_write::lane::Parcel;
use crate::forward::remote_write::letter;
use crate::forward::remote_write::login::Credentials;
use crate::forward::remote_write::policy::Verdict;
use crate::forward::remote_write::round;
use crate::forward::remote_write::settings::StoreSettings;
use crate::forward::resend::ReplayError;
use crate::shard::command::DeadLetter;
use crate::wire::outgoing::Request;
use crate::wire::pack::Packing;

/// Sends a request without samples. Blocking.
pub fn connect(settings: &Arc<StoreSettings>, runtime: &tokio::runtime::Handle) -> Result<String, String> {
    let to = to(settings)?;
    let (packing, body) = round::packed(Packing::Snappy, &Request::empty(settings.protocol));
    let parcel = Parcel { body, packing, attempt: 0, tenant: settings.tenant_of("").into() };
    match runtime.block_on(flight::one(&mut Lane::default(), &to, &parcel, 0)) {
        Verdict::Taken(_) => Ok(format!("{} takes requests", settings.url)),
        Verdict::Later(trouble, _) => Err(trouble.to_string()),
        Verdict::Refused(answer) => {
            let text = format!("{} refuses even a request without samples: {} {}", settings.url, answer.status, answer.text);
            Err(text.trim_end().to_owned())
        }
    }
}

fn to(settings: &Arc<StoreSettings>) -> Result<To, String> {
    let header = settings.login.as_ref().map(|login| Credentials::default().header(login)).transpose();
    let head = Head::new(settings, header.map_err(|trouble| trouble.to_string())?.map(|(header, _)| header));
    Ok(To { settings: Arc::clone(settings), head: Arc::new(head), packing: Packing::Snappy })
}

/// Sends letters again, in order, for as long as `go_on` says so; one outcome each, or why the store could not be asked. Blocking.
pub fn replay(
    settings: &Arc<StoreSettings>,
    runtime: &tokio::runtime::Handle,
    letters: &[DeadLetter],
    go_on: &dyn Fn() -> bool,
) -> Result<Vec<Result<(), ReplayError>>, String> {
    let to = to(settings)?;
    let mut lane = Lane::default();
    let mut outcomes = Vec::new();
    for letter in letters {
        if !go_on() {
            outcomes.push(Err(ReplayError::NotTried));
            continue;
        }
        let Some(request) = letter::read(&letter.payload, settings.protocol) else {
            outcomes.push(Err(ReplayError::NotWhole));
            continue;
        };
        let (packing, body) = round::packed(Packing::Snappy, &request);
        let parcel = Parcel { body, packing, attempt: 0, tenant: settings.tenant_of(&letter.tenant).into() };
        match runtime.block_on(flight::one(&mut lane, &to, &parcel, 1)) {
            Verdict::Taken(_) => outcomes.push(Ok(())),
            // Nobody there, or nobody who takes anything: it would be so for the others.
            Verdict::Later(trouble, _) if outcomes.is_empty() => return Err(trouble.to_string()),
            Verdict::Later(trouble, _) => outcomes.push(Err(ReplayError::Refused(trouble.to_string()))),
            Verdict::Refused(answer) => {
                let text = format!("the store did not take it: {} {}", answer.status, answer.text);
                outcomes.push(Err(ReplayError::Refused(text.trim_end().to_owned())));
            }
        }
    }
    Ok(outcomes)
}
