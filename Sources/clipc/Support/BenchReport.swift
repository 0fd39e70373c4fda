import Foundation

/// What a benchmark found.
struct BenchReport {
  let tower: String
  let batch: Int
  let tokens: Int?
  let threads: Int
  /// Milliseconds of each call.
  let times: [Double]
  let load: Duration
  let first: Duration
  let arenaByteCount: Int
  let fileByteCount: Int
  let kernelSet: String
  let nodes: [BenchNode]?

  private func quantile(_ share: Double) -> Double {
    let sorted = times.sorted()
    return sorted[min(sorted.count - 1, Int(share * Double(sorted.count)))]
  }

  /// Bytes of memory that the process has had at most.
  private var peakByteCount: Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
  }

  var json: JSON {
    let median = quantile(0.5)
    var members: [(String, JSON)] = [
      ("tower", .text(tower)), ("batch", .integer(batch)),
      ("tokens", tokens.map { .integer($0) } ?? .null), ("threads", .integer(threads)),
      ("median_ms", .rounded(median, 4)), ("min_ms", .rounded(quantile(0), 4)),
      ("p90_ms", .rounded(quantile(0.9), 4)),
      ("items_per_second", .rounded(1000 * Double(batch) / median, 2)),
      ("load_ms", .rounded(load / .milliseconds(1), 3)),
      ("first_ms", .rounded(first / .milliseconds(1), 3)),
      ("peak_rss_bytes", .integer(peakByteCount)), ("arena_bytes", .integer(arenaByteCount)),
      ("file_bytes", .integer(fileByteCount)), ("kernel_set", .text(kernelSet)),
    ]
    if let nodes {
      members.append(
        (
          "nodes",
          .array(
            nodes.map { node in
              .object(
                [
                  ("name", .text(node.name)), ("kind", .text(node.kind)),
                  ("ms", .rounded(node.milliseconds, 5)), ("share", .rounded(node.share, 5)),
                ] + (node.layout.map { [("layout", .text($0))] } ?? []))
            })
        ))
    }
    return .object(members)
  }

  var text: String {
    let median = quantile(0.5)
    var lines = [
      String(
        format: "%@ tower, batch %d%@, %d threads, kernels %@", tower, batch,
        tokens.map { ", \($0) tokens" } ?? "", threads, kernelSet),
      String(
        format: "median %.3f ms, min %.3f ms, p90 %.3f ms, %.1f items/s over %d calls", median,
        quantile(0), quantile(0.9), 1000 * Double(batch) / median, times.count),
      String(
        format: "load %.2f ms, first call %.2f ms, arena %d bytes, file %d bytes, peak %d bytes",
        load / .milliseconds(1), first / .milliseconds(1), arenaByteCount, fileByteCount,
        peakByteCount),
    ]
    if let nodes {
      lines.append(
        table(
          [["ms", "share", "kind", "weights", "node"]]
            + nodes.map { node in
              [
                String(format: "%.4f", node.milliseconds),
                String(format: "%.1f%%", 100 * node.share),
                node.kind, node.layout ?? "", printable(node.name),
              ]
            }))
    }
    return lines.joined(separator: "\n")
  }
}
