-- The tracker finds a torrent by the request that its passkey names.
DROP INDEX torrents_by_infohash_v2;
