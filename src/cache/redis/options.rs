//! Which server or cluster, and how long it may take.

use std::time::Duration;

use redis::cluster::ClusterClientBuilder;
use redis::{Client, IntoConnectionInfo};

use super::breaker::CONNECT;
use super::link::Target;
use crate::cache::CacheError;
use crate::config::RESPONSE;

/// Which Redis, and how long a call may wait for it. It has no `Debug` form: it may hold a password.
#[derive(Clone)]
pub struct RedisOptions {
    urls: String,
    pub(super) response: Duration,
}

impl RedisOptions {
    /// As [`StatusCache::redis`](crate::StatusCache::redis) takes it.
    #[must_use]
    pub fn new(urls: &str) -> Self {
        Self {
            urls: urls.to_owned(),
            response: RESPONSE,
        }
    }

    /// How long a call waits for an answer before it goes on without; 5 ms unless said otherwise.
    #[must_use]
    pub fn response(mut self, most: Duration) -> Self {
        self.response = most;
        self
    }

    /// No message repeats the URL: it may hold a password.
    pub(super) fn target(&self) -> Result<Target, CacheError> {
        let urls = self.urls.split([',', ' ', '\t', '\n']);
        let urls: Vec<&str> = urls.filter(|url| !url.is_empty()).collect();
        let plain: Vec<String> = urls.iter().map(|url| plain(url)).collect();
        let mut infos = Vec::with_capacity(plain.len());
        for url in &plain {
            let info = url.as_str().into_connection_info();
            infos.push(info.map_err(|e| CacheError(format!("redis: not a URL of Redis: {e}")))?);
        }
        let refused = |e: redis::RedisError| CacheError(format!("redis: {e}"));
        let is_cluster = urls.len() > 1 || urls.iter().any(|url| is_cluster(url));
        match infos.first() {
            None => Err(CacheError("redis: there is no URL".to_owned())),
            Some(one) if !is_cluster => Client::open(one.clone())
                .map(|client| Target::One(Box::new(client)))
                .map_err(refused),
            Some(_) => ClusterClientBuilder::new(infos)
                .connection_timeout(CONNECT)
                .response_timeout(self.response)
                .retries(1)
                .min_retry_wait(0)
                .max_retry_wait(1)
                .build()
                .map(|client| Target::Cluster(Box::new(client)))
                .map_err(refused),
        }
    }
}

fn is_cluster(url: &str) -> bool {
    url.starts_with("redis-cluster:") || url.starts_with("rediss-cluster:")
}

/// The URL as the driver knows it.
fn plain(url: &str) -> String {
    if is_cluster(url) {
        url.replacen("-cluster", "", 1)
    } else {
        url.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_cluster(urls: &str) -> Option<bool> {
        match RedisOptions::new(urls).target() {
            Ok(Target::One(_)) => Some(false),
            Ok(Target::Cluster(_)) => Some(true),
            Err(_) => None,
        }
    }

    #[test]
    fn several_urls_or_the_scheme_are_a_cluster() {
        assert_eq!(is_cluster("redis://a"), Some(false));
        assert_eq!(is_cluster("redis://:p@a:1/2"), Some(false));
        assert_eq!(is_cluster("redis-cluster://a:1"), Some(true));
        assert_eq!(is_cluster("redis://a:1,redis://b:2"), Some(true));
        assert_eq!(is_cluster(" redis://a:1  redis://b:2 "), Some(true));
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_shown() {
        for urls in [
            "",
            ",",
            "hunter2",
            "http://:hunter2@a",
            "redis://:hunter2@a:x",
        ] {
            let Err(error) = RedisOptions::new(urls).target() else {
                panic!("{urls}");
            };
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
