select e.name, d.name from emp e join dept d on e.dept_id = d.id
select e.name, d.name from emp e inner join dept d on e.dept_id = d.id where d.city = 'Paris'
select e.name, d.name from emp e left join dept d on e.dept_id = d.id
select e.name, d.name from emp e right join dept d on e.dept_id = d.id
select e.name, d.name from emp e full join dept d on e.dept_id = d.id
select e.name, d.name from emp e full outer join dept d on e.dept_id = d.id where e.id is null or d.id is null
select count(*) from emp cross join dept
select count(*) from emp, dept
select e.name, d.name from emp e, dept d where e.dept_id = d.id and d.budget > 50000
select e.name, b.name as boss from emp e join emp b on e.boss_id = b.id
select e.name, b.name as boss from emp e left join emp b on e.boss_id = b.id
select e.name, b.name, d.name from emp e join emp b on e.boss_id = b.id join dept d on b.dept_id = d.id
select d.name, count(e.id) from dept d left join emp e on e.dept_id = d.id group by d.name
select d.name, sum(s.amount) from dept d join emp e on e.dept_id = d.id join sales s on s.emp_id = e.id group by d.name
select e.id, s.id from emp e left join sales s on s.emp_id = e.id and s.qty > 6
select e.id, s.id from emp e left join sales s on s.emp_id = e.id and s.amount > e.salary / 10
select e.id, d.id from emp e left join dept d on e.dept_id = d.id and d.budget > 50000
select e.id, d.id from emp e full join dept d on e.dept_id = d.id and d.budget > 50000
select e.id, d.id from emp e full join dept d on e.dept_id = d.id and e.salary > 6000
select e.id, d.id from emp e right join dept d on e.dept_id = d.id and e.salary > 7000
select a.i, b.j from nums a join nums b on a.i < b.j where b.j < 4
select a.i, b.i from nums a join nums b on a.i < b.i and a.j > b.j
select a.i, b.j from nums a left join nums b on a.i < b.j and b.j > 5
select a.i, b.j from nums a join nums b on a.i = b.j
select a.i, b.j from nums a join nums b on a.i + 1 = b.j
select id, e.name from emp e join (select id from dept where id < 3) d using (id)
select count(*) from emp join sales on emp.id = sales.emp_id
select * from (select id, city from dept) a join (select id, budget from dept) b using (id)
select id, city, n from dept left join (select dept_id as id, count(*) as n from emp group by dept_id) c using (id)
select a.id from (select id from emp) a natural join (select id from dept) b
select name from emp semi join dept on emp.dept_id = dept.id
select name from emp anti join dept on emp.dept_id = dept.id
select e.name from emp e join dept d on e.dept_id = d.id and e.name < d.name
select e.id, s.region, count(*) from emp e join sales s on e.id = s.emp_id group by e.id, s.region having count(*) > 1
select distinct d.city from emp e join dept d on e.dept_id = d.id
select e.name, s.day from emp e join sales s on e.id = s.emp_id where s.day > e.hired and s.qty = 7
select x.id, y.id from dept x cross join dept y where x.id < y.id
select x.id, y.id from dept x join dept y on x.city = y.city and x.id <> y.id
select e.name, d.name from dept d right join emp e on e.dept_id = d.id where e.id > 15
select d.id, e.id from dept d left join emp e on e.dept_id = d.id and e.active and d.id > 1
select d.name, e.name from dept d left join emp e on d.id = e.dept_id where e.name is null
select e.id from emp e join empty x on e.id = x.a
select e.id, x.b from emp e left join empty x on e.id = x.a where e.id < 4
select count(*) from emp a join emp b on a.dept_id = b.dept_id join emp c on b.dept_id = c.dept_id
select a.s, b.s from nums a join nums b on a.s = b.s
select e.name, t.n from emp e join (select emp_id, count(*) as n from sales group by emp_id) t on e.id = t.emp_id where t.n > 5
select s.id, e.name from sales s left join emp e on s.emp_id = e.id where e.id is null
select count(*) from dept, (select min(salary) from emp) s
select d.name from dept d cross join (select count(*), max(salary) from emp) s
