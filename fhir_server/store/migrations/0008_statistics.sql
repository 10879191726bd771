-- What a sample cannot see: most hashes are rare (an identifier, a worker), and there are many of them. PostgreSQL took each
-- for hundreds of rows, and read a whole code to find the documents of one worker. The frequent ones are counted one by one.
alter table token alter column h set (n_distinct = -0.1);
alter table token alter column h set statistics 1000;
alter table word alter column folded set statistics 1000;
analyze token, word;
