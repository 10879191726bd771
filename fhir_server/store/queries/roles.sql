-- name: newest
-- The table of roles as the service's doctor laid it down last.
select edition, rows from role_edition order by edition desc limit 1

-- name: editions
-- Every edition, the newest first.
select edition, laid_down, by_whom, reason, rows from role_edition order by edition desc

-- name: lay_down
-- The next edition; two at one moment are not both the next.
insert into role_edition (edition, by_whom, reason, rows)
select coalesce(max(edition), 0) + 1, %s, %s, %s from role_edition returning edition

-- name: delegate
-- A delegation that the médecin du travail gives.
insert into delegation (delegate, by_whom, low, high) values (%s, %s, %s, %s)

-- name: end_delegations
-- The delegations in force or to come of somebody, ended now.
update delegation set high = now() where delegate = %s and high > now()

-- name: delegations
-- Every delegation, the newest first.
select delegate, by_whom, low, high from delegation order by low desc, delegate
