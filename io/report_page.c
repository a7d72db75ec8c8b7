/* report_page.c — what every report looks like. Nothing is loaded from outside: fonts are the
 * system's, and light or dark follows the reader's setting. */
#include "io/report_page.h"

#include "io/metrics_text.h"

static const char style[] =
    ":root{color-scheme:light dark;--bg:#f6f6f4;--card:#fff;--ink:#1c2024;--soft:#626b75;"
    "--line:#e2e4e7;--a:#2b6cc4;--b:#d2620a;--c:#3f8a5a;--good:#2e8b57;--warn:#c77700;--bad:#"
    "c43d3d;"
    "--wait:#7a828c}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#131619;--card:#1b1f23;--ink:#e6e9ec;"
    "--soft:#97a1ac;--line:#2c3238;--a:#78aef5;--b:#f0a050;--c:#79c594;--good:#5cc08a;--warn:#"
    "e5a940;"
    "--bad:#ef7d7d;--wait:#97a1ac}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);"
    "font:15px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",sans-serif;"
    "-webkit-text-size-adjust:100%}\n"
    "main{max-width:1120px;margin:0 auto;padding:28px 20px 40px}\n"
    "h1,h2,h3,p,ul,dl,dd,figure{margin:0;padding:0}h1{font-size:24px;line-height:1.25;"
    "overflow-wrap:anywhere}h2{font-size:15px;margin:30px 0 10px}h3{font-size:14px}\n"
    ".sub{color:var(--soft);margin-top:4px;overflow-wrap:anywhere}\n"
    ".card,.chart,details{background:var(--card);border:1px solid var(--line);border-radius:8px}\n"
    ".verdict{margin-top:20px;padding:16px 20px;border-left:5px solid var(--wait)}"
    ".verdict h2{margin:0 0 4px;font-size:18px}.verdict p+p{margin-top:6px;color:var(--soft)}\n"
    ".verdict.good{border-left-color:var(--good)}.verdict.warn{border-left-color:var(--warn)}"
    ".verdict.bad{border-left-color:var(--bad)}\n"
    ".figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px;"
    "margin-top:12px}.figures div{padding:12px 14px}.figures dt{color:var(--soft);font-size:13px}"
    ".figures dd{font-size:20px;font-weight:600;font-variant-numeric:tabular-nums;line-height:1.35;"
    "overflow-wrap:anywhere}.figures small{display:block;font-size:12px;font-weight:400;"
    "color:var(--soft)}\n"
    ".charts{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:12px}"
    ".chart{padding:14px 18px 12px}#loss,.chart:last-child:nth-child(even){grid-column:1/-1}\n"
    "figcaption{display:flex;flex-wrap:wrap;align-items:baseline;gap:2px 14px;min-height:24px}"
    "figcaption p{font-size:12px;color:var(--soft)}.legend{display:flex;flex-wrap:wrap;gap:2px "
    "14px;"
    "list-style:none;font-size:12.5px;color:var(--soft)}.legend li::before{content:\"\";"
    "display:inline-block;width:16px;height:0;border-top:2.5px solid;margin-right:6px;"
    "vertical-align:.28em}.legend .a::before{color:var(--a)}.legend .b::before{color:var(--b)}"
    ".legend .c::before{color:var(--c)}\n"
    ".plot{padding:10px 6px 26px 44px}.plot>svg{display:block;width:100%;height:190px;"
    "overflow:visible}#loss .plot>svg{height:300px}\n"
    ".grid,.tick{stroke:var(--line);stroke-width:1}.axis{fill:var(--soft);font-size:11.5px;"
    "font-variant-numeric:tabular-nums}.axis.y{text-anchor:end}.axis.x{text-anchor:middle}"
    ".axis.last{text-anchor:end}\n"
    ".curve{fill:none;stroke-width:1.7;stroke-linejoin:round;stroke-linecap:round;"
    "vector-effect:non-scaling-stroke}.a{stroke:var(--a)}.b{stroke:var(--b)}.c{stroke:var(--c)}"
    ".faint{stroke-width:1;opacity:.32}.legend li{stroke:none}\n"
    ".dot{stroke:none}.dot.a{fill:var(--a)}.dot.b{fill:var(--b)}.dot.c{fill:var(--c)}"
    ".dot:hover{stroke:var(--ink);stroke-width:1.5}.quiet{opacity:0}.quiet:hover{opacity:1}\n"
    "line.mark{stroke:var(--soft);stroke-dasharray:3 3}circle.mark{fill:var(--card);"
    "stroke:var(--ink);stroke-width:1.7}text.mark{fill:var(--ink);font-size:12px;font-weight:600}"
    "text.left{text-anchor:end}\n"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13.5px;"
    "font-variant-numeric:tabular-nums}th,td{padding:6px 14px;text-align:left;"
    "border-bottom:1px solid var(--line);vertical-align:top}tr:last-child td{border-bottom:0}"
    "th{font-weight:600;color:var(--soft);white-space:nowrap}td.n,th.n{text-align:right;"
    "white-space:nowrap}td small{color:var(--soft)}\n"
    ".facts td:first-child{color:var(--soft);width:1%;white-space:nowrap}.facts "
    "td{overflow-wrap:anywhere}"
    ".pair{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:12px;align-items:start}"
    ".pair h3{padding:11px 14px 5px}\n"
    "details{margin-top:12px;padding:10px 14px}summary{cursor:pointer;font-weight:600;"
    "font-size:14px}pre{overflow-x:auto;margin:10px 0 0;font:12px/1.5 ui-monospace,SFMono-Regular,"
    "Menlo,Consolas,monospace}footer{margin-top:28px;color:var(--soft);font-size:12.5px}\n"
    "@media(max-width:720px){main{padding:18px 12px 28px}.charts,.pair{grid-template-columns:"
    "minmax(0,1fr)}.chart{padding:12px 12px 8px}#loss .plot>svg{height:230px}.figures{"
    "grid-template-columns:repeat(2,minmax(0,1fr));gap:8px}.verdict{padding:14px 16px}"
    "th,td{padding:6px 10px}td small{display:block}}\n"
    "@media print{body{background:#fff}.card,.chart{break-inside:avoid}}\n";

void qni_page_begin(qn_text *t, const char *title) {
    qn_text_add(t, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                   "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                   "<title>");
    qni_text_html(t, title);
    qn_text_add(t, "</title>\n<style>\n");
    qn_text_add(t, style);
    qn_text_add(t, "</style>\n</head>\n<body>\n<main>\n<section>\n");
}

void qni_page_end(qn_text *t, const char *footer) {
    qn_text_add(t, "</section>\n<footer>");
    qni_text_html(t, footer);
    qn_text_add(t, "</footer>\n</main>\n</body>\n</html>\n");
}

void qni_page_section(qn_text *t, const char *title) {
    qn_text_add(t, "</section>\n<section>\n<h2>");
    qni_text_html(t, title);
    qn_text_add(t, "</h2>\n");
}

void qni_page_figure(qn_text *t, const char *name, const char *value, const char *detail) {
    qn_text_add(t, "<div class=\"card\"><dt>");
    qni_text_html(t, name);
    qn_text_add(t, "</dt><dd>");
    qni_text_html(t, value);
    if (detail) {
        qn_text_add(t, "<small>");
        qni_text_html(t, detail);
        qn_text_add(t, "</small>");
    }
    qn_text_add(t, "</dd></div>\n");
}

void qni_page_row(qn_text *t, const char *name, const char *value) {
    qn_text_add(t, "<tr><td>");
    qni_text_html(t, name);
    qn_text_add(t, "</td><td>");
    qni_text_html(t, value);
    qn_text_add(t, "</td></tr>\n");
}
