"""report.md, from the journal alone. Called by the reporter's script task."""
import journal


def write(job):
    """job: {brokers, report, since}. Returns what the task gives as its output."""
    reviews = [r["output"] for r in journal.Journal(job["brokers"]).of("reviewer", status="completed")]
    fixed = sorted((r for r in reviews if r["fixes"]), key=lambda r: (-r["score"], r["package"]))
    top = fixed[:5]
    lines = [
        "# Security fixes among the installed packages", "",
        f"Since {job['since']}: {len(reviews)} changelogs read, {len(fixed)} of them with security fixes, for "
        f"{sum(r['packages'] for r in fixed)} installed packages; {sum(r['fixes'] for r in fixed)} uploads, "
        f"{sum(r['cves'] for r in fixed)} CVE ids (an id counts once a changelog).", "",
        "## Read these five first", "",
    ]
    for i, r in enumerate(top, 1):
        lines.append(f"{i}. **{r['source']}** {r['version']}: {r['fixes']} uploads with fixes, {r['cves']} CVE ids, "
                     f"{r['urgent']} urgent, newest {r['newest']}; score {r['score']}")
        lines.append(f"   `zless {r['changelog']}`")
    check = f"zgrep -oE 'CVE-[0-9]{{4}}-[0-9]{{4,}}' {top[0]['changelog']} | sort -u | wc -l" if top else "true"
    if top:
        lines += ["", "## Check a number", "",
                  f"The changelog of {top[0]['source']} names {top[0]['cvesEver']} CVE ids in all:", "", f"    {check}"]
    lines += ["", "## All with fixes", "", "| package | installed from this source | fixes | CVE ids | urgent | newest | score |",
              "|---|---|---|---|---|---|---|"]
    lines += [f"| {r['package']} | {r['packages']} | {r['fixes']} | {r['cves']} | {r['urgent']} | {r['newest']} | {r['score']} |"
              for r in fixed]
    with open(job["report"], "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    return {"report": job["report"], "read": len(reviews), "fixed": len(fixed), "check": check,
            "expect": top[0]["cvesEver"] if top else None}
