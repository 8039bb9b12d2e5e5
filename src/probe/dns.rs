//! `prober: dns`: one question to one server by UDP, TCP or TLS, and what the records of its answer must be.
//!
//! An answer by UDP that did not fit is asked for again by TCP, as resolvers do (not with `compat: strict`).

pub mod message;

use std::net::SocketAddr;

use regex::Regex;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;

use crate::config::probe::dns;
use crate::config::probe::dns::RCODES;
use crate::probe::connect;
use crate::probe::connect::Io;
use crate::probe::connect::of_io;
use crate::probe::dns::message::Message;
use crate::probe::dns::message::Record as Answered;
use crate::probe::outcome::Cause;
use crate::probe::record::Record;
use crate::probe::record::Stop;
use crate::probe::record::Way;
use crate::probe::resolve;
use crate::probe::run::Ask;
use crate::probe::tls::Tls;

/// Type SOA.
const SOA: u16 = 6;

/// `prober: dns`
#[derive(Debug)]
pub struct Dns {
    settings: dns::Dns,
    tls: Tls,
    sections: [(&'static str, Rules); 3],
}

#[derive(Debug)]
struct Rules {
    matches: Vec<Regex>,
    all_match: Vec<Regex>,
    not_matches: Vec<Regex>,
    none_matches: Vec<Regex>,
}

/// What came of it, however far it came.
#[derive(Debug, Default)]
pub struct Told {
    answered: bool,
    counts: [usize; 3],
    /// Of an SOA, where one was asked for.
    serial: Option<u32>,
    rcode: Option<u16>,
}

impl Dns {
    /// Of what the module says, which was found good.
    pub fn new(settings: &dns::Dns) -> Dns {
        let sections = [("answer", &settings.answer), ("authority", &settings.authority), ("additional", &settings.additional)];
        Dns {
            tls: Tls::new(&settings.tls_config, &[]),
            sections: sections.map(|(name, records)| (name, Rules::new(records))),
            settings: settings.clone(),
        }
    }

    /// There is a handshake.
    pub fn computes(&self) -> bool {
        self.settings.over_tls
    }

    /// Probes.
    pub async fn run(&self, ask: &Ask<'_>, told: &mut Told, record: &mut Record) -> Way<()> {
        let settings = &self.settings;
        let usual = if settings.over_tls { 853 } else { 53 };
        let (host, port) = connect::host_port(ask.target).unwrap_or((ask.target.trim_start_matches('[').trim_end_matches(']'), usual));
        let address = SocketAddr::new(resolve::resolve(host, settings.family, ask.guard, record).await?, port);
        let id = fastrand::u16(..);
        let question = message::question(id, &settings.name, settings.kind, settings.class, settings.recursion);
        let mut answer = if settings.tcp {
            self.by_tcp(address, host, &question, record).await?
        } else {
            self.by_udp(address, &question, record).await?
        };
        if answer.truncated && !settings.tcp && !ask.module.strict {
            record.note(|| "the answer did not fit, and is asked for by TCP".to_owned());
            answer = self.by_tcp(address, host, &question, record).await?;
        }
        record.note(|| {
            let all = answer.answer.iter().chain(&answer.authority).chain(&answer.additional);
            format!("answers {}: {}", code(answer.rcode), all.map(|one| one.text.replace('\t', " ")).collect::<Vec<_>>().join("; "))
        });
        told.answered = true;
        told.rcode = Some(answer.rcode);
        told.counts = [answer.answer.len(), answer.authority.len(), answer.additional.len()];
        told.serial = answer.answer.iter().filter_map(|one| one.serial).next_back();
        if !settings.rcodes.contains(&answer.rcode) {
            return Err(Stop::new(Cause::Status, format!("the answer's code is {}", code(answer.rcode))));
        }
        for ((name, rules), records) in self.sections.iter().zip([&answer.answer, &answer.authority, &answer.additional]) {
            rules.judge(records, ask.module.strict).map_err(|text| Stop::new(Cause::Body, format!("{name}: {text}")))?;
        }
        Ok(())
    }

    async fn by_udp(&self, address: SocketAddr, question: &[u8], record: &mut Record) -> Way<Message> {
        record.begin("connect", || format!("{address}/udp"));
        let any = if address.is_ipv4() { std::net::Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
        let from = SocketAddr::new(self.settings.source.unwrap_or(any), 0);
        let wrong = |error: std::io::Error| of_io(&error, &format!("{address}/udp"));
        let socket = UdpSocket::bind(from).await.map_err(wrong)?;
        socket.connect(address).await.map_err(wrong)?;
        record.begin("request", || self.settings.name.clone());
        socket.send(question).await.map_err(wrong)?;
        let mut bytes = vec![0; 65_535];
        loop {
            let length = socket.recv(&mut bytes).await.map_err(wrong)?;
            let answer = understood(&bytes[..length])?;
            // Whatever else comes is no answer of this question.
            if answer.id.to_be_bytes() == question[..2] {
                record.end();
                return Ok(answer);
            }
        }
    }

    async fn by_tcp(&self, address: SocketAddr, host: &str, question: &[u8], record: &mut Record) -> Way<Message> {
        let stream = connect::tcp(address, self.settings.source, record).await?;
        if !self.settings.over_tls {
            return self.over(stream, question, record).await;
        }
        let stream = self.tls.shake(host, stream, record).await?;
        self.over(stream, question, record).await
    }

    async fn over(&self, mut stream: impl Io, question: &[u8], record: &mut Record) -> Way<Message> {
        record.begin("request", || self.settings.name.clone());
        let wrong = |error: std::io::Error| of_io(&error, "the connection");
        let mut framed = u16::try_from(question.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
        framed.extend_from_slice(question);
        stream.write_all(&framed).await.map_err(wrong)?;
        stream.flush().await.map_err(wrong)?;
        let length = stream.read_u16().await.map_err(wrong)?;
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await.map_err(wrong)?;
        let answer = understood(&bytes)?;
        if answer.id.to_be_bytes() != question[..2] {
            return Err(Stop::new(Cause::Protocol, "the answer is to another question"));
        }
        record.end();
        Ok(answer)
    }
}

fn understood(bytes: &[u8]) -> Way<Message> {
    message::read(bytes).map_err(|broken| Stop::new(Cause::Protocol, format!("what came {}", broken.0)))
}

fn code(rcode: u16) -> String {
    RCODES.iter().find(|(_, number)| *number == rcode).map_or_else(|| rcode.to_string(), |(name, _)| (*name).to_owned())
}

impl Rules {
    fn new(records: &dns::Records) -> Rules {
        let patterns = |texts: &[String]| texts.iter().filter_map(|text| Regex::new(text).ok()).collect();
        Rules {
            matches: patterns(&records.matches),
            all_match: patterns(&records.all_match),
            not_matches: patterns(&records.not_matches),
            none_matches: patterns(&records.none_matches),
        }
    }

    fn judge(&self, records: &[Answered], strict: bool) -> Result<(), String> {
        let shown = |record: &Answered| record.text.replace('\t', " ");
        if records.is_empty() && !(self.not_matches.is_empty() && self.none_matches.is_empty()) {
            return Err("there is no record, and one must match".to_owned());
        }
        for record in records {
            if let Some(pattern) = self.matches.iter().find(|pattern| pattern.is_match(&record.text)) {
                return Err(format!("`{}` matches `{pattern}`", shown(record)));
            }
            if let Some(pattern) = self.not_matches.iter().find(|pattern| !pattern.is_match(&record.text)) {
                return Err(format!("`{}` does not match `{pattern}`", shown(record)));
            }
        }
        let matched = |pattern: &Regex| records.iter().filter(|record| pattern.is_match(&record.text)).count();
        if strict {
            // blackbox_exporter does the contrary of what the name says.
            if self.all_match.iter().any(|pattern| matched(pattern) < records.len()) {
                return Err("not all records match (compat: strict)".to_owned());
            }
        } else if let Some(pattern) = self.all_match.iter().find(|pattern| !records.is_empty() && matched(pattern) == records.len()) {
            return Err(format!("all records match `{pattern}`"));
        }
        if !self.none_matches.is_empty() && self.none_matches.iter().all(|pattern| matched(pattern) == 0) {
            return Err("no record matches".to_owned());
        }
        Ok(())
    }
}

/// Metrics.
pub fn tell(dns: &Dns, told: &Told, record: &mut Record) {
    resolve::tell(record);
    let (name, help) = ("probe_dns_duration_seconds", "Duration of DNS request by phase");
    let connect = record.took("connect") + record.took("tls");
    for (phase, took) in [("resolve", record.took("resolve")), ("connect", connect), ("request", record.took("request"))] {
        record.metrics.push(crate::probe::outcome::Metric::with(name, help, ("phase", phase.into()), took.as_secs_f64()));
    }
    let count = |at: usize| told.counts[at] as f64;
    record.set("probe_dns_answer_rrs", "Returns number of entries in the answer resource record list", count(0));
    record.set("probe_dns_authority_rrs", "Returns number of entries in the authority resource record list", count(1));
    record.set("probe_dns_additional_rrs", "Returns number of entries in the additional resource record list", count(2));
    let help = "Displays whether or not the query was executed successfully";
    record.set("probe_dns_query_succeeded", help, f64::from(u8::from(told.answered)));
    if dns.settings.kind == SOA && told.answered {
        record.set("probe_dns_serial", "Returns the serial number of the zone", told.serial.map_or(0.0, f64::from));
    }
    if let Some(rcode) = told.rcode {
        record.set("sluice_probe_dns_rcode", "The code of the answer", f64::from(rcode));
    }
    // blackbox_exporter has no metrics of the certificate here.
    if dns.settings.over_tls {
        crate::probe::tls::tell(record, crate::probe::tls::Told::All, false, false);
    }
}
