select id, l[1], l[2] from nest
select id, array_length(l) from nest where l is not null
select id, s.a, s.b from nest
select id, s['a'] from nest
select s.a + 1 as a from nest where s.b = 'x'
select id, array_contains(l, 2) from nest where id = 1
select id, array_to_string(t, '+') from nest where id < 3
select unnest(l) as v from nest where id = 1
select id, unnest(t) as v from nest where id < 3
select array_sum(l) from nest where id = 1
select array_reverse(l) from nest where id = 1
select array_unique(l) from nest where id = 1
select array_mean(l) from nest where id = 1
select [1, 2, 3] as l
select array[1, 2] as l
select id, l from nest where id < 3
select count(*) from nest where s.a is null
select s.b, count(*) from nest group by s.b
select max(s.a) from nest
select array_get(t, 1) from nest where id = 1
