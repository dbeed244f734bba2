//! The schema as the migrations make it, against the snapshot that is checked in; and how migrating itself behaves.
//!
//! `MILLRACE_RENEW=1 cargo test -p millrace-tests --test suite schema` writes the snapshot anew.

use std::path::Path;
use std::{env, fs};

use millrace::migrate::migrate;
use millrace_tests::database::{Database, explain};
use url::Url;

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sql/schema.snapshot");

/// Everything but function bodies, one line each, from the catalogue: a dump's text differs between versions of Postgres.
/// The dated partitions and the migrations' own history are left out.
const LINES: &str = r#"
with own as (
  select oid, nspname from pg_namespace where nspname in ('millrace', 'millrace_api', 'comms', 'service_api', 'public')
), relation as (
  select c.*, n.nspname, n.nspname || '.' || c.relname as name from pg_class c join own n on n.oid = c.relnamespace
   where c.relname !~ '_[0-9]{8}(_|$)' and c.relname !~ '^migration(_|$)'
), granted as (
  select 'grant on schema ' || n.nspname as place, a.grantee, a.privilege_type from pg_namespace n join own o on o.oid = n.oid, aclexplode(n.nspacl) a
   where a.grantee <> n.nspowner
  union all
  select 'grant on relation ' || r.name, a.grantee, a.privilege_type from relation r, aclexplode(r.relacl) a where a.grantee <> r.relowner
  union all
  select 'grant on function ' || p.oid::regprocedure, a.grantee, a.privilege_type
    from pg_proc p join own n on n.oid = p.pronamespace, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee <> p.proowner
), line as (
  select 'schema ' || nspname as line from own
  union all
  select case r.relkind when 'S' then 'sequence ' when 'c' then 'type ' when 'v' then 'view ' else 'table ' end || r.name
         || coalesce(' partition by ' || pg_get_partkeydef(r.oid), '') || coalesce(' partition ' || pg_get_expr(r.relpartbound, r.oid), '')
         || coalesce(' with (' || array_to_string(r.reloptions, ', ') || ')', '')
    from relation r where r.relkind in ('r', 'p', 'v', 'S', 'c')
  union all
  select 'column ' || r.name || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
         || case when a.attnotnull then ' not null' else '' end || case when a.attidentity <> '' then ' identity' else '' end
         || coalesce(' collate ' || (select l.collname from pg_collation l where l.oid = a.attcollation and l.collname <> 'default'), '')
         || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
    from relation r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
   where r.relkind in ('r', 'p', 'v', 'c')
  union all
  select 'constraint on ' || r.name || ' ' || pg_get_constraintdef(k.oid)
    from relation r join pg_constraint k on k.conrelid = r.oid where k.contype in ('p', 'u', 'c', 'f', 'x')
  union all
  select 'index ' || pg_get_indexdef(i.indexrelid) from relation r join pg_index i on i.indrelid = r.oid
  union all
  select 'trigger ' || pg_get_triggerdef(t.oid) from relation r join pg_trigger t on t.tgrelid = r.oid where not t.tgisinternal
  union all
  select 'function ' || p.oid::regprocedure || ' returns ' || pg_get_function_result(p.oid)
         || ' arguments (' || pg_get_function_arguments(p.oid) || ') '
         || case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end
         || case when p.proisstrict then ' strict' else '' end || case when p.prosecdef then ' security definer' else '' end
         || coalesce(' set ' || array_to_string(p.proconfig, '; '), '')
    from pg_proc p join own n on n.oid = p.pronamespace
  union all
  select place || ': ' || privilege_type || ' to ' || coalesce((select rolname from pg_roles where oid = grantee), 'public') from granted
)
select line from line order by line collate pg_catalog."C""#;

async fn dump(database: &Database) -> String {
    let rows = database.all(LINES, &[]).await;
    rows.iter().fold(String::new(), |dump, row| {
        dump + row.get::<_, &str>(0) + "\n"
    })
}

#[tokio::test]
async fn the_schema_is_the_one_that_is_checked_in() {
    let dump = dump(&Database::fresh().await).await;
    if env::var_os("MILLRACE_RENEW").is_some() {
        fs::write(SNAPSHOT, &dump).expect("writing the snapshot");
    }
    assert!(
        Path::new(SNAPSHOT).exists(),
        "no snapshot: write it with MILLRACE_RENEW=1"
    );
    let snapshot = fs::read_to_string(SNAPSHOT).expect("the snapshot");
    let missing: Vec<_> = snapshot
        .lines()
        .filter(|line| !dump.lines().any(|l| l == *line))
        .map(|line| format!("- {line}"))
        .collect();
    let added: Vec<_> = dump
        .lines()
        .filter(|line| !snapshot.lines().any(|l| l == *line))
        .map(|line| format!("+ {line}"))
        .collect();
    assert!(
        dump == snapshot,
        "the schema is not the snapshot's; if that is meant, run this test with MILLRACE_RENEW=1 and commit sql/schema.snapshot\n{}\n{}",
        missing.join("\n"),
        added.join("\n")
    );
    println!("schema: {} lines as in the snapshot", dump.lines().count());
}

/// An empty database on the tests' server.
async fn empty(database: &Database, name: &str) -> String {
    let mut url = Url::parse(database.url()).expect("a URL");
    let name = format!("{}_{name}", url.path().trim_start_matches('/'));
    database
        .run(&format!("create database {name} template template0"))
        .await;
    url.set_path(&name);
    url.into()
}

#[tokio::test]
async fn migrating_twice_has_nothing_to_do() {
    let database = Database::fresh().await;
    assert_eq!(
        migrate(database.url()).await.expect("a second migration"),
        0
    );
}

#[tokio::test]
async fn two_may_migrate_at_once() {
    let database = Database::fresh().await;
    let url = empty(&database, "twice").await;
    let (one, other) = tokio::join!(migrate(&url), migrate(&url));
    let mut applied = [one.expect("one migration"), other.expect("the other")];
    applied.sort_unstable();
    assert_eq!(applied[0], 0, "one waits and finds nothing to do");
    let versions: i64 = database
        .one("select count(*) from millrace.migration", &[])
        .await
        .get(0);
    assert_eq!(i64::try_from(applied[1]).expect("a count"), versions);
    let migrated = Database::open(&url).await;
    assert_eq!(dump(&migrated).await, dump(&database).await);
}

#[tokio::test]
async fn an_edited_migration_is_an_error_that_names_it() {
    let database = Database::fresh().await;
    let name: String = database
        .one(
            "update millrace.migration set checksum = '1' where version = 5 returning name",
            &[],
        )
        .await
        .get(0);
    let error = format!(
        "{:#}",
        migrate(database.url())
            .await
            .expect_err("an edited migration")
    );
    assert!(error.contains(&name), "{error}");
}

/// Gives the database at `url` to a role that may log in and nothing else, and returns the URL for that.
async fn given_to_plain_owner(database: &Database, url: &str) -> String {
    let mut url = Url::parse(url).expect("a URL");
    let name = url.path().trim_start_matches('/').to_owned();
    let owner = format!("{name}_owner");
    database
        .run(&format!(
            "create role {owner} login nosuperuser nocreaterole nocreatedb password 'plain'; alter database {name} owner to {owner}"
        ))
        .await;
    url.set_username(&owner).expect("a user");
    url.set_password(Some("plain")).expect("a password");
    url.into()
}

#[tokio::test]
async fn an_owner_who_may_make_no_roles_migrates_where_they_are_there() {
    let database = Database::fresh().await;
    let url = empty(&database, "plain").await;
    let url = given_to_plain_owner(&database, &url).await;
    assert!(migrate(&url).await.expect("a migration") > 0);
    assert_eq!(migrate(&url).await.expect("a second migration"), 0);
    let migrated = Database::open(&url).await;
    assert_eq!(dump(&migrated).await, dump(&database).await);
    migrated
        .run("select millrace.enqueue('q', 't'); select millrace.claim('q', 'w'); select millrace.housekeep()")
        .await;
}

/// Whoever may create in `public` can give an expression a closer match than the catalogue has.
#[tokio::test]
async fn what_others_planted_in_public_is_not_run_by_the_owner() {
    let database = Database::fresh().await;
    let url = empty(&database, "planted").await;
    let server = Database::open(&url).await;
    let name = Url::parse(&url).expect("a URL").path()[1..].to_owned();
    server
        .run(&format!(
            "create role {name}_guest nologin; grant usage, create on schema public to {name}_guest; set role {name}_guest;
             create function public.times(int, interval) returns interval language plpgsql as $$ begin raise exception 'planted'; end $$;
             create operator public.* (leftarg = int, rightarg = interval, function = public.times);
             reset role"
        ))
        .await;
    let url = given_to_plain_owner(&database, &url).await;
    let owner = Database::open(&url).await;
    let sprung = owner
        .client()
        .batch_execute("select w * interval '7 days' from generate_series(0, 1) as w")
        .await
        .expect_err("what is planted");
    assert!(explain(&sprung).contains("planted"), "{}", explain(&sprung));

    assert!(migrate(&url).await.expect("a migration") > 0);
    assert_eq!(migrate(&url).await.expect("a second migration"), 0);
    owner
        .run("select millrace.make_partitions(); select millrace.enqueue('q', 't', delay => '0'); select millrace.claim('q', 'w'); select millrace.housekeep()")
        .await;
    owner.assert_no_job_misplaced().await;
}
