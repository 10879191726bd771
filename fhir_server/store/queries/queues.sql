-- name: deliveries
-- How many deliveries of each recipient are in each state.
select recipient, state, count(*) from delivery group by 1, 2

-- name: oldest_waiting
-- Since when the oldest delivery of each recipient waits, in seconds.
select recipient, extract(epoch from now() - min(created))::float8
from delivery where state in ('pending', 'sending') group by 1

-- name: review_folders
-- How many folders wait for a person.
select count(*) from scan_folder where state in ('to-review', 'second-opinion')

-- name: jobs
-- How many background jobs of this tenant there are in each status; outbox/jobs.py names them.
select split_part(task_name, '@', 1), status::text, count(*) from procrastinate_jobs
where coalesce(nullif(split_part(task_name, '@', 2), ''), '0') = current_setting('dmst.tenant') group by 1, 2
