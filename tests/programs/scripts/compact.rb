# SPDX-License-Identifier: BSD-2-Clause
# Objects that come and go, moved together by GC.compact, and what is left of them: compact.rb COUNT
require "digest"
count = ARGV[0].to_i
x = 12345
kept = []
digest = Digest::SHA256.new
4.times do |round|
  count.times do |i|
    x = (x * 1103515245 + 12345) & 0x7fffffff
    kept << { id: i, text: "object #{i} of round #{round}, #{x.to_s(16)}" * (1 + x % 3), next: kept[x % (kept.size + 1)] }
  end
  kept.select!.with_index { |_, i| i % 2 == round % 2 }
  GC.compact
  kept.each { |o| digest << o[:text]; digest << o[:next][:text] if o[:next] }
end
puts "#{kept.size} objects, #{digest.hexdigest}"
