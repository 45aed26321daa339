import Foundation
import Glibc
import Testing

@testable import Checkpoints

/// A headless Chromium.
enum Browser {
    static let path: String? = {
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
        let names = ["chromium", "chromium-browser", "google-chrome"]
        return names.flatMap { name in folders.map { "\($0)/\(name)" } }
            .first(where: FileManager.default.isExecutableFile)
    }()

    /// Opens a page of the workplace; returns what it printed, and what its console said.
    static func open(
        _ page: String, in workplace: Workplace, _ options: String...
    ) throws -> (output: String, console: [Substring]) {
        let profile = try Workplace()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try #require(path))
        process.arguments =
            [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                "--user-data-dir=\(profile.path)", "--window-size=1100,900", "--virtual-time-budget=30000",
                "--enable-logging=stderr", "--v=0",
            ] + options + ["file://\(workplace.path)/\(page)"]
        process.currentDirectoryURL = URL(fileURLWithPath: workplace.path)
        process.standardInput = FileHandle.nullDevice
        let (output, errors) = (workplace.file("browser.out"), workplace.file("browser.err"))
        for file in [output, errors] { _ = FileManager.default.createFile(atPath: file, contents: nil) }
        process.standardOutput = FileHandle(forWritingAtPath: output)
        process.standardError = FileHandle(forWritingAtPath: errors)
        try process.run()
        process.waitUntilExit()
        let said = try workplace.text("browser.err").split(separator: "\n")
        try #require(process.terminationStatus == 0, "\(said.suffix(5))")
        return (try workplace.text("browser.out"), said.filter { $0.contains(":CONSOLE") })
    }
}

@Suite(
    "The report in a browser", .serialized, .enabled(if: Browser.path != nil, "needs Chromium: scripts/setup --test"))
struct BrowserTests {
    let workplace: Workplace
    private let ranks: Metrics

    init() throws {
        workplace = try Workplace(textBytes: 1500)
        try TinyModel.cola.writeCheckpoint(workplace.file("cola.h5"))
        let folder = try EveryResult(in: workplace).folder
        // A name that would be markup if anybody took it for that.
        let other = "<img src=x onerror=alert(1)>"
        try workplace.succeed(.analyze, "spectrum", "cola.h5", "--text", "text.txt", "--out", other, "--quiet")
        try workplace.succeed(.analyze, "report", folder, other, "--out", "r.html", "--quiet")
        ranks = try Metrics(try workplace.text("all/ranks.csv").replacing("\r\n", with: "\n"))
    }

    /// A copy of the page with a script of ours at its end, which its policy would not let run; what the script leaves in
    /// `found` comes back.
    private func probe(_ script: String, _ option: String = "--force-color-profile=srgb") throws -> JSONValue {
        let policy = /content="default-src[^"]*"/
        let page = try workplace.text("r.html").replacing(policy, with: "content=\"\"").replacing(
            "</body>",
            with: """
                <pre id="probe"></pre><script>addEventListener('load', async () => {
                const found = {};
                const wait = (time) => new Promise((done) => setTimeout(done, time));
                const map = () => [...document.querySelector('#figure-map table.map').tBodies[0].rows]
                  .map((row) => [...row.cells].slice(1).map((cell) => cell.textContent));
                const press = (key) => document.activeElement.dispatchEvent(
                  new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
                try { \(script) } catch (error) { found.error = String(error); }
                document.getElementById('probe').textContent = 'PROBE' + JSON.stringify(found) + 'END';
                });</script></body>
                """)
        try workplace.write(page, "probe.html")
        let (output, console) = try Browser.open("probe.html", in: workplace, "--dump-dom", option)
        #expect(console == [])
        let match = try #require(output.firstMatch(of: /PROBE(\{.*\})END/), "the script did not come to its end")
        let text = String(match.1).replacing("&lt;", with: "<").replacing("&gt;", with: ">").replacing(
            "&amp;", with: "&")
        let found = try JSONValue(parsing: text)
        try #require(found["error"] == nil, "\(found["error"]?.text() ?? "")")
        return found
    }

    /// The ranks of a column of ranks.csv as the map shows them, layer by layer.
    private func expected(_ column: String) throws -> [[String]] {
        let values = try ranks.column(column).map(String.init)
        return stride(from: 0, to: values.count, by: 8).map { Array(values[$0..<$0 + 8]) }
    }

    private func rows(_ value: JSONValue?) -> [[String]] {
        (value?.arrayValue ?? []).map { ($0.arrayValue ?? []).compactMap(\.stringValue) }
    }

    @Test("It opens from a file, says nothing on the console, and shows every part")
    func opens() throws {
        let (page, console) = try Browser.open("r.html", in: workplace, "--dump-dom")
        #expect(console == [])
        for section in [
            "In short", "Effective ranks", "Singular values", "Rank plans", "Conversions", "Training",
            "Ranks during training", "Costs", "Where this comes from",
        ] { #expect(page.contains(">\(section)</h2>"), "\(section)") }
        // The name of the folder is text.
        #expect(page.contains("&lt;img src=x onerror=alert(1)&gt;") && !page.contains("<img"))
        // Every chart says what it is.
        let charts = page.matches(of: /<svg[^>]*class="chart[^>]*>/)
        #expect(charts.count >= 6 && charts.allSatisfy { $0.output.contains("role=\"img\"") })
        #expect(page.matches(of: #/<figure /#).count <= page.matches(of: />Save SVG</).count)
    }

    @Test("What a stranger asks first is answered in words and by the numbers of ranks.csv")
    func summary() throws {
        let found = try probe(
            "const card = document.querySelector('.card'); found.words = card.textContent; found.map = map();")
        let linear = try ranks.column("module").indices.filter { ranks.rows[$0][1] != "residual" }
        let energy = try ranks.numbers("energy_at_quarter")
        let worst = try #require(linear.min { energy[$0] < energy[$1] })
        let words = try #require(found["words"]?.stringValue)
        let module = ranks.rows[worst][1].split(separator: ".").last!.replacing("_proj", with: "")
        let rank = try ranks.column("rank_0.95")[worst]
        #expect(words.contains("layer \(ranks.rows[worst][0]) \(module)"))
        #expect(words.contains("To keep 95 % of the energy of what leaves it, a bottleneck needs \(rank) of"))
        let error = try ranks.numbers("relative_error_at_quarter")[worst]
        #expect(words.contains(String(format: "off by at least %.2f of its size", error)))
        #expect(words.contains("d/4 = 6"))
        #expect(rows(found["map"]) == (try expected("rank_0.95")))
    }

    @Test("α from the address, and by choice, changes every rank; a wrong one changes nothing")
    func alpha() throws {
        let found = try probe(
            """
            location.hash = '#alpha=0.99'; await wait(50); found.address = map();
            location.hash = '#alpha=2&module=x&run=y'; await wait(50); found.wrong = map();
            const choice = [...document.querySelectorAll('select')].find((item) => item.closest('label')
              .textContent.includes('share of the energy'));
            choice.value = '0.90'; choice.dispatchEvent(new Event('change', { bubbles: true })); await wait(50);
            found.chosen = map(); found.hash = location.hash;
            """)
        #expect(rows(found["address"]) == (try expected("rank_0.99")))
        #expect(rows(found["wrong"]) == rows(found["address"]))
        #expect(rows(found["chosen"]) == (try expected("rank_0.90")))
        #expect(found["hash"]?.stringValue?.contains("alpha=0.90") == true)
    }

    @Test("The map is walked with the keyboard, and every control can be reached")
    func keyboard() throws {
        let found = try probe(
            """
            document.querySelector('#figure-map table.map [tabindex="0"]').focus();
            const where = () => document.activeElement.getAttribute('aria-label');
            found.start = where(); press('ArrowDown'); press('ArrowRight'); found.moved = where();
            press('Home'); found.home = where(); press('End'); found.end = where();
            press('ArrowDown'); found.stays = where();
            press('ArrowLeft'); press('Enter'); await wait(50);
            found.state = [state.module, state.layers, where()];
            const controls = [...document.querySelectorAll('button, select, input, a[href], summary')];
            found.controls = controls.length;
            found.unreachable = controls.filter((node) => node.tabIndex < 0).length;
            found.nameless = controls.filter((node) => !node.textContent.trim() && !node.closest('label')).length;
            """)
        #expect(found["start"]?.stringValue?.hasPrefix("layer 0 q:") == true)
        #expect(found["moved"]?.stringValue?.hasPrefix("layer 1 k:") == true)
        #expect(found["home"]?.stringValue?.hasPrefix("layer 1 q:") == true)
        #expect(found["end"]?.stringValue?.hasPrefix("layer 1 residual:") == true)
        #expect(found["stays"]?.stringValue == found["end"]?.stringValue)
        #expect(found["state"]?[0]?.stringValue == "mlp.down_proj")
        #expect(found["state"]?[1]?.stringValue?.contains("1") == true)
        #expect(found["state"]?[2]?.stringValue?.hasPrefix("layer 1 down:") == true)
        #expect(found["controls"]?.intValue ?? 0 > 20)
        #expect(found["unreachable"]?.intValue == 0 && found["nameless"]?.intValue == 0)
    }

    @Test("Every figure has its data as a table, and can be saved as SVG, PNG and CSV")
    func saving() throws {
        let found = try probe(
            """
            found.figures = [];
            for (const item of figures) {
              const svg = svgText(item.picture());
              const parsed = new DOMParser().parseFromString(svg, 'image/svg+xml');
              const blob = await pngBlob(item.picture());
              const bytes = new Uint8Array(await blob.arrayBuffer());
              item.node.querySelector('details').open = true; await wait(20);
              found.figures.push({ id: item.node.id, svg: svg.length, png: bytes.length,
                isPicture: parsed.documentElement.localName === 'svg' && !svg.includes('var('),
                signature: [...bytes.slice(1, 4)].map((byte) => String.fromCharCode(byte)).join(''),
                rows: item.node.querySelectorAll('details tbody tr').length });
            }
            """)
        let figures = try #require(found["figures"]?.arrayValue)
        #expect(figures.count >= 8)
        for figure in figures {
            let id = figure["id"]?.stringValue ?? ""
            #expect(figure["isPicture"]?.boolValue == true && figure["svg"]?.intValue ?? 0 > 500, "\(id)")
            #expect(figure["signature"]?.stringValue == "PNG" && figure["png"]?.intValue ?? 0 > 1000, "\(id)")
            #expect(figure["rows"]?.intValue ?? 0 > 0, "\(id)")
        }
    }

    @Test("On a phone nothing is wider than the screen")
    func phone() throws {
        // A window of Chromium is no narrower than 500 pixels, but a frame can be.
        let text = JSONValue.string(try workplace.text("r.html")).text().replacing("<", with: "\\u003c")
        try workplace.write(
            """
            <!doctype html><iframe id="phone" style="width:360px;height:800px;border:0"></iframe>
            <pre id="probe"></pre><script>
            const phone = document.getElementById('phone');
            phone.onload = () => setTimeout(() => {
              const root = phone.contentDocument.documentElement;
              const wide = [...root.querySelectorAll('svg.chart, figure, section')]
                .filter((node) => node.getBoundingClientRect().right > 361).length;
              document.getElementById('probe').textContent =
                `PROBE${JSON.stringify([phone.contentWindow.innerWidth, root.scrollWidth, wide,
                  root.querySelectorAll('svg.chart').length])}END`;
            }, 300);
            phone.srcdoc = \(text);
            </script>
            """, "phone.html")
        let (output, console) = try Browser.open("phone.html", in: workplace, "--dump-dom")
        #expect(console == [])
        let found = try JSONValue(parsing: String(try #require(output.firstMatch(of: /PROBE(\[.*?\])END/)).1))
        let numbers = (found.arrayValue ?? []).compactMap(\.intValue)
        try #require(numbers.count == 4)
        #expect(numbers[0] == 360 && numbers[1] <= 360 && numbers[2] == 0 && numbers[3] >= 6)
    }

    @Test("In the dark the page is dark, and its text can be read in both", arguments: [true, false])
    func dark(_ isDark: Bool) throws {
        let found = try probe(
            """
            const light = (text) => {
              const [r, g, b] = plainColour(text).match(/[0-9a-f]{2}/g).map((part) => {
                const value = parseInt(part, 16) / 255;
                return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
              });
              return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const ground = (node) => {
              for (let at = node; at; at = at.parentElement) {
                const colour = plainColour(getComputedStyle(at).backgroundColor);
                if (colour !== 'none') return light(colour);
              }
              return 1;
            };
            found.paper = ground(document.body);
            const texts = [...document.querySelectorAll('h1, h2, h3, p, dt, dd, th, td, a, button, summary, label span')]
              .filter((node) => node.textContent.trim() && !node.classList.contains('skip'));
            found.texts = texts.length;
            found.contrast = Math.min(...texts.map((node) => {
              const [ink, paper] = [light(getComputedStyle(node).color), ground(node)];
              return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
            }));
            """, "--blink-settings=preferredColorScheme=\(isDark ? 0 : 1)")
        let paper = try #require(found["paper"]?.doubleValue)
        #expect(isDark ? paper < 0.05 : paper > 0.85)
        #expect(found["contrast"]?.doubleValue ?? 0 >= 4.5 && found["texts"]?.intValue ?? 0 > 100)
    }

    @Test("It prints, and a screenshot is no blank page")
    func printing() throws {
        _ = try Browser.open(
            "r.html", in: workplace, "--print-to-pdf=\(workplace.file("r.pdf"))", "--no-pdf-header-footer")
        let pdf = try workplace.bytes("r.pdf")
        #expect(pdf.starts(with: "%PDF".utf8) && pdf.count > 20_000)
        _ = try Browser.open("r.html", in: workplace, "--screenshot=\(workplace.file("r.png"))")
        let png = try workplace.bytes("r.png")
        #expect(png.starts(with: [0x89, 0x50, 0x4E, 0x47]) && png.count > 20_000)
    }
}
