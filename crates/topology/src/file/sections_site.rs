//! What the file says of a site and of its routes, each value with its place.

use std::path::PathBuf;
use std::time::Duration;

use super::keys::{self, HttpsWord};
use super::kind::Table;
use super::reader::{Key, Located, Reader, WordOrTable};
use super::sections::Place;
use crate::{HostPattern, PoolName, RedirectStatus};

pub(crate) struct Site {
    pub host: Located<HostPattern>,
    /// `None`: it is wrong, and that is reported.
    pub https: Option<SiteHttps>,
    /// `None`: missing, and that is reported.
    pub routes: Option<Vec<Route>>,
    pub request_headers: Fields,
    pub response_headers: Fields,
    pub errors: Vec<(Located<String>, Located<String>)>,
    pub maintenance: Option<PathBuf>,
}

pub(crate) enum SiteHttps {
    Word(Located<HttpsWord>),
    Files {
        place: Place,
        cert: PathBuf,
        key: PathBuf,
        redirect: bool,
        hsts: bool,
        clients: Option<PathBuf>,
        clients_required: Located<bool>,
    },
}

pub(crate) struct Route {
    pub header: Place,
    pub path: Option<Located<String>>,
    pub pool: Option<Located<PoolName>>,
    pub pool_written: Option<Place>,
    pub files: Option<Located<PathBuf>>,
    pub files_written: Option<Place>,
    pub redirect: Option<Located<String>>,
    pub redirect_written: Option<Place>,
    pub status: Located<RedirectStatus>,
    pub strip_prefix: Located<bool>,
    pub replace_prefix: Option<Located<String>>,
    pub request_headers: Fields,
    pub response_headers: Fields,
    pub body_bytes: Option<Located<u64>>,
    pub body_rate: Option<Located<u64>>,
    pub response_time: Option<Located<Duration>>,
    pub maintenance: Option<PathBuf>,
}

/// `{ set = ..., remove = ... }`, empty if it is not written.
#[derive(Default)]
pub(crate) struct Fields {
    pub written: Option<Place>,
    pub set: Vec<(Located<String>, Located<String>)>,
    pub remove: Vec<Located<String>>,
}

pub(super) fn site((host, reader): (Located<HostPattern>, Reader<'_>)) -> Site {
    let https = match reader.word_or_table(&keys::site::HTTPS) {
        Some(WordOrTable::Word(word)) => Some(SiteHttps::Word(word)),
        Some(WordOrTable::Table(files)) => {
            let cert = files.find(&keys::certificate::CERT);
            let key = files.find(&keys::certificate::KEY);
            let redirect = files.get(&keys::certificate::REDIRECT).value;
            let hsts = files.find(&keys::certificate::HSTS).map_or(redirect, |hsts| hsts.value);
            let clients = files.find(&keys::certificate::CLIENTS).map(|file| file.value);
            let clients_required = files.get(&keys::certificate::CLIENTS_REQUIRED);
            cert.zip(key).map(|(cert, key)| SiteHttps::Files {
                place: files.header.clone(),
                cert: cert.value,
                key: key.value,
                redirect,
                hsts,
                clients,
                clients_required,
            })
        }
        None if reader.written(&keys::site::HTTPS).is_some() => None,
        None => Some(SiteHttps::Word(Located {
            value: HttpsWord::Off,
            span: reader.header.clone(),
            key: reader.header.clone(),
            written: false,
        })),
    };
    let routes = reader.items(&keys::site::ROUTES).map(|routes| routes.iter().map(route).collect());
    Site {
        host,
        https,
        routes,
        request_headers: fields(&reader, &keys::site::REQUEST_HEADERS),
        response_headers: fields(&reader, &keys::site::RESPONSE_HEADERS),
        errors: reader.find(&keys::site::ERRORS).map(|errors| errors.value).unwrap_or_default(),
        maintenance: reader.find(&keys::site::MAINTENANCE).map(|page| page.value),
    }
}

fn route(reader: &Reader<'_>) -> Route {
    Route {
        header: reader.header.clone(),
        path: reader.find(&keys::route::PATH),
        pool: reader.find(&keys::route::POOL),
        pool_written: reader.written(&keys::route::POOL),
        files: reader.find(&keys::route::FILES),
        files_written: reader.written(&keys::route::FILES),
        redirect: reader.find(&keys::route::REDIRECT),
        redirect_written: reader.written(&keys::route::REDIRECT),
        status: reader.get(&keys::route::STATUS),
        strip_prefix: reader.get(&keys::route::STRIP_PREFIX),
        replace_prefix: reader.find(&keys::route::REPLACE_PREFIX),
        request_headers: fields(reader, &keys::route::REQUEST_HEADERS),
        response_headers: fields(reader, &keys::route::RESPONSE_HEADERS),
        body_bytes: reader.find(&keys::route::BODY_BYTES),
        body_rate: reader.find(&keys::route::BODY_RATE),
        response_time: reader.find(&keys::route::RESPONSE_TIME),
        maintenance: reader.find(&keys::route::MAINTENANCE).map(|page| page.value),
    }
}

fn fields(reader: &Reader<'_>, key: &Key<Table>) -> Fields {
    let Some(inner) = reader.inner(key) else { return Fields::default() };
    Fields {
        written: Some(inner.header.clone()),
        set: inner.find(&keys::fields::SET).map(|set| set.value).unwrap_or_default(),
        remove: inner.find(&keys::fields::REMOVE).map(|names| names.value).unwrap_or_default(),
    }
}
