-- name: add
-- A new upload.
insert into upload (upload_id, client_id, length, resource, binary_id, method, expires)
values (%s, %s, %s, %b, %s, %s, %s)

-- name: find
-- An upload of one client that has not expired.
select upload_id, client_id, length, received, resource, binary_id, method, version, expires
from upload where upload_id = %s and client_id = %s and expires > now()

-- name: unfinished
-- How many uploads of a client are not finished.
select count(*) from upload where client_id = %s and version is null and expires > now()

-- name: advance
-- What is on disk now.
update upload set received = %s, expires = %s where upload_id = %s

-- name: finish
-- The version that the Binary got.
update upload set version = %s where upload_id = %s

-- name: drop
-- An upload that its owner gave up.
delete from upload where upload_id = %s

-- name: drop_expired
-- Uploads that nobody may continue any more.
delete from upload where expires < now()

-- name: known
-- Which of these uploads there are.
select upload_id from upload where upload_id = any(%s::text[])
